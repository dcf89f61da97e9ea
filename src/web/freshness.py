"""The `Consistency-Token`: a command's answer carries its position, and a read that brings it back sees that much."""

from __future__ import annotations

from contextvars import ContextVar
from functools import reduce

from aiohttp import web

from ..models.errors import RejectedError, Rejection
from ..models.positions import TOKEN_HEADER, Positions
from ..store.routing import ReadRouter

READS = web.AppKey("reads", ReadRouter)
"""Where reads of Postgres go, as fresh as they have to be."""

# What the request under way has put on Kafka. It is kept here and not passed from hand to hand, so that no answer can
# come without its token: that of a batch, of a refusal, of an outcome that is not known in time.
_promised: ContextVar[list[Positions]] = ContextVar("promised")


def begin_request() -> None:
    """Let the request begin that runs in this context, and in those of the tasks that it starts."""
    _promised.set([])


def promise(positions: Positions) -> None:
    """Take note that a command of this request stands at a position."""
    so_far = _promised.get(None)
    if so_far is not None:
        so_far.append(positions)


def promised() -> Positions | None:
    """The positions of all commands of this request; nothing where there is none."""
    so_far = _promised.get(None)
    return reduce(Positions.merge, so_far) if so_far else None


def consistency(request: web.Request) -> Positions | None:
    """How fresh an answer has to be: all that the `Consistency-Token` headers name; nothing without them.

    Raises:
        RejectedError: VALIDATION_ERROR, one is not a token of ours.
    """
    values = request.headers.getall(TOKEN_HEADER, [])
    if not values:
        return None
    try:
        return reduce(Positions.merge, (Positions.parse(token.strip()) for token in ",".join(values).split(",")))
    except ValueError as error:
        words = f"{TOKEN_HEADER} cannot be understood ({error}): send what a command's answer carried, as it is"
        raise RejectedError(Rejection.invalid(words)) from error
