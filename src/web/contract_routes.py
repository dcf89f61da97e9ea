"""The routes of the contracts and their pages, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from . import answers
from .contracts import get_asyncapi, get_docs, get_landing, get_openapi
from .middleware import Handler
from .route import UNCHANGED, Reply, Route

_GROUP = "Contracts"


def _static(path: str, name: str, handler: Handler, summary: str, reply: Reply) -> Route:
    """The route of a document that is made when the process starts."""
    return Route(
        method="GET",
        path=path,
        name=name,
        handler=handler,
        group=_GROUP,
        summary=summary,
        headers=("If-None-Match",),
        replies={HTTPStatus.OK: reply, HTTPStatus.NOT_MODIFIED: UNCHANGED},
        can_fail=False,
    )


_DOCUMENT = Reply(description="The document.", of=answers.Document, headers=("ETag",))
_PAGE = Reply(description="The page.", text="text/html", headers=("ETag",))

CONTRACT_ROUTES = (
    _static("/openapi.json", "getOpenApi", get_openapi, "This API, as OpenAPI 3.1", _DOCUMENT),
    _static("/asyncapi.json", "getAsyncApi", get_asyncapi, "The Kafka topics, as AsyncAPI 3.0", _DOCUMENT),
    _static("/docs", "getDocs", get_docs, "Both contracts, as a page for people", _PAGE),
    _static("/", "getLandingPage", get_landing, "Where to find what", _PAGE),
)
