"""What all client commands share: where the API is, who asks, and how a call is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..client import AsyncClient
    from ..models.base import JsonObject

# ruff: noqa: PLC0415 - everything slow is imported where it is used

FAILED = 1

LONG_PATIENCE = 120.0
"""A client that follows something for long sits out a restart of the server."""

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ASSESSMENTSTORE_URL",
        help="Where the API is; else port ASSESSMENTSTORE_HTTP_PORT of this machine.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="ASSESSMENTSTORE_TOKEN",
        help="A JWT; else one for the local user, made with the configured secret.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on a terminal, too.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The assessment.", show_default=False)]


def instant(text: str | None, option: str) -> datetime | None:
    """The time that an option names.

    Raises:
        BadParameter: it is none.
    """
    from pydantic import TypeAdapter, ValidationError

    from ..models.filters import Instant

    try:
        found: datetime | None = TypeAdapter(Instant | None).validate_python(text)
    except ValidationError as error:
        raise typer.BadParameter(f"{text!r} is no time like 2026-01-31T12:00:00Z", param_hint=option) from error
    return found


def call(
    url: str | None,
    token: str | None,
    use: Callable[[AsyncClient], Coroutine[Any, Any, T]],
    *,
    patience: float = 10.0,
) -> T:
    """Open a session with the API, and return what is done with it."""
    from ..client import AsyncClient
    from ..dev.access import client_settings, local_token, local_url

    settings = client_settings()
    client = AsyncClient(url or local_url(settings.http_port), token or local_token(settings), patience=patience)

    async def session() -> T:
        async with client:
            return await use(client)

    return asyncio.run(session())


def wire(answer: BaseModel) -> JsonObject:
    """An answer as it is printed: what the server said, with the names that it has there."""
    from ..models.base import OpenWireModel

    return answer.model_dump(mode="json", by_alias=True, exclude_unset=isinstance(answer, OpenWireModel))
