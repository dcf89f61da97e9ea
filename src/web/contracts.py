"""The contract documents and their pages, made when the process starts and served to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import web

from .headers import none_match
from .page import POLICY
from .pages import docs_page, landing_page

_DIGEST_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Static:
    """One document as it is served."""

    content: bytes
    headers: Mapping[str, str]
    tag: str
    """Tells this content from any other."""

    @classmethod
    def of(cls, content: bytes, content_type: str, **headers: str) -> Static:
        """Wrap what never changes while the process runs."""
        tag = sha256(content).hexdigest()[:_DIGEST_CHARACTERS]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # A copy may be kept, but is used only after asking: the next release may say something else.
        fixed = {"Content-Type": content_type, "ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        return cls(content, fixed | named, tag)

    @classmethod
    def json(cls, document: Mapping[str, Any]) -> Static:
        """Wrap a document."""
        return cls.of(orjson.dumps(document), "application/json")

    def respond(self, request: web.Request) -> web.Response:
        """Answer, or say that the caller has it already."""
        if none_match(request.headers.getall("If-None-Match", []), self.tag):
            kept = {name: value for name, value in self.headers.items() if name != "Content-Type"}
            return web.Response(status=304, headers=kept)
        return web.Response(body=self.content, headers=self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contracts:
    """Everything that is served of the contracts."""

    openapi: Static
    asyncapi: Static
    docs: Static
    landing: Static

    @classmethod
    def of(cls, openapi: Mapping[str, Any], asyncapi: Mapping[str, Any]) -> Contracts:
        """Wrap both documents, and make their pages."""
        return cls(
            openapi=Static.json(openapi),
            asyncapi=Static.json(asyncapi),
            docs=_page(docs_page(openapi, asyncapi)),
            landing=_page(landing_page(openapi["info"]["version"])),
        )


def _page(content: bytes) -> Static:
    return Static.of(content, "text/html; charset=utf-8", Content_Security_Policy=POLICY)


CONTRACTS = web.AppKey("contracts", Contracts)


async def get_openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return request.app[CONTRACTS].openapi.respond(request)


async def get_asyncapi(request: web.Request) -> web.Response:
    """`GET /asyncapi.json`."""
    return request.app[CONTRACTS].asyncapi.respond(request)


async def get_docs(request: web.Request) -> web.Response:
    """`GET /docs`."""
    return request.app[CONTRACTS].docs.respond(request)


async def get_landing(request: web.Request) -> web.Response:
    """`GET /`."""
    return request.app[CONTRACTS].landing.respond(request)
