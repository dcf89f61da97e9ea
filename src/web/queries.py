"""Query parameters as types: what is unknown or wrong is refused by its name."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError

from ..models.errors import RejectedError, Rejection
from ..models.filters import Query
from .middleware import Handler

Q = TypeVar("Q", bound=Query)


def read_query(request: web.Request, kind: type[Q]) -> Q:
    """The query parameters of a request.

    Raises:
        RejectedError: VALIDATION_ERROR, with the name of each parameter that is wrong.
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in request.query.items():
        values[name].append(value)
    many = {name for name, field in kind.model_fields.items() if field.default == ()}
    twice = [name for name, found in values.items() if len(found) > 1 and name not in many]
    if twice:
        raise wrong_parameters([(twice[0], "given more than once")])
    given: dict[str, Any] = {name: found if name in many else found[0] for name, found in values.items()}
    try:
        return kind.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        raise wrong_parameters([(str(item["loc"][0]), _words(item)) for item in error.errors()]) from error


def without_query(handler: Handler) -> Handler:
    """The handler of a route that has no parameters: any is refused before anything is done."""

    async def handle(request: web.Request) -> web.StreamResponse:
        read_query(request, Query)
        return await handler(request)

    return handle


def wrong_parameters(found: list[tuple[str, str]]) -> RejectedError:
    """The refusal of parameters, each with what is wrong with it; the first one is named in the message."""
    name, message = found[0]
    errors = [{"parameter": parameter, "message": words} for parameter, words in found]
    return RejectedError(Rejection.invalid(f"{name}: {message}", parameter=name, errors=errors))


def _words(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    return "there is no such parameter" if item["type"] == "extra_forbidden" else message
