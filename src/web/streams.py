"""The event streams: `GET /assessments/{id}/events` and `GET /events`.

Each is authorised anew whenever a client comes back, and ends with its token. A stream has two sources that meet
without a gap: what lies before its place in the live feed it reads from the audit trail, the rest the feed brings.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from ..models.assessment import UNCHANGING_STATES
from ..models.errors import RejectedError, Rejection, UnavailableError
from ..models.events import EventType
from ..models.positions import Positions
from ..store.routing import ReadRouter
from ..store.trail import TrailReader
from .auth import Permission, User, authorize
from .feed import FEED
from .feed_positions import position_text
from .freshness import READS, consistency
from .patience import promptly
from .queries import read_query
from .reads import visible
from .requests import StreamQuery
from .sse import Stream, abort
from .stream_of_all import AllEvents, resume
from .stream_of_one import OneAssessment, resume_one

logger = logging.getLogger(__name__)

TRAIL = web.AppKey("trail", TrailReader)

# A token may outlive everybody; a client that comes back once a day costs nothing.
_LONGEST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for."""

    types: frozenset[EventType] | None
    last_id: str | None


async def assessment_events(request: web.Request) -> web.StreamResponse:
    """`GET /assessments/{id}/events`: its whole life without a `Last-Event-ID`, else what came after."""
    user, wanted = authorize(request, Permission.VIEW), read_wanted(request)
    feed, trail = request.app[FEED], request.app[TRAIL]
    with feed.open(partial(abort, request)) as subscription:
        # What the client was promised to see is there once its state is visible.
        assessment_id = (await visible(request, user)).assessment_id
        await promptly(feed.reached(()))
        current = await promptly(trail.version(assessment_id))
        if current is None:
            raise RejectedError(Rejection.not_found(assessment_id), assessment_id=assessment_id)
        version, state = current
        after, reset = resume_one(wanted.last_id, version)
        ended = state in UNCHANGING_STATES
        if wanted.last_id and not reset and after == version and ended:
            # The one answer that keeps an EventSource from coming back.
            return web.Response(status=204)
        events = OneAssessment(assessment_id, wanted.types, trail, after=after, version=version, ended=ended)
        send = partial(events.run, subscription=subscription, feed=feed, reset=reset)
        return await _stream(request, user, send)


async def all_events(request: web.Request) -> web.StreamResponse:
    """`GET /events`: whatever the user may see, from now on or after a `Last-Event-ID`."""
    user, wanted = authorize(request, Permission.VIEW), read_wanted(request)
    feed, trail = request.app[FEED], request.app[TRAIL]
    with feed.open(partial(abort, request)) as subscription:
        await _promised(request)
        position, reset = resume(wanted.last_id, await promptly(trail.bounds()))
        await promptly(feed.reached(position))
        events = AllEvents(user, wanted.types, trail, feed, position)
        send = partial(events.run, subscription=subscription, reset=reset)
        return await _stream(request, user, send, position_text(position))


async def _promised(request: web.Request) -> None:
    """Wait until what a `Consistency-Token` names is applied."""
    positions = consistency(request)
    if positions is not None:
        await promptly(_reach(request.app[READS], positions))


async def _reach(reads: ReadRouter, positions: Positions) -> None:
    async with reads.connection(positions):
        pass  # a replica that is so fresh has it from the primary, where the history is read


def read_wanted(request: web.Request) -> Wanted:
    """The query and the `Last-Event-ID` of a request.

    Raises:
        RejectedError: VALIDATION_ERROR, something is unknown or stands twice.
    """
    query = read_query(request, StreamQuery)
    # An EventSource that comes back sends the header, and the query of its first time with it.
    last_id = request.headers.get("Last-Event-ID") or query.last_event_id
    return Wanted(frozenset(query.type) or None, last_id or None)


async def _stream(
    request: web.Request, user: User, send: Callable[[Stream], Awaitable[None]], event_id: str | None = None
) -> web.StreamResponse:
    """Answer with a stream, until it, the token or the client comes to its end."""
    stream = Stream(request)
    try:
        await stream.begin(event_id)
        async with asyncio.timeout(min(user.expires_at - time.time(), _LONGEST_SECONDS)):
            await send(stream)
    except TimeoutError:
        logger.debug("A token came to its end, and its stream with it", extra={"action": "stream_expired"})
    except ConnectionError as error:
        logger.debug("A client left its stream: %s", error, extra={"action": "stream_left"})
    except UnavailableError as error:
        logger.warning("A stream ends early: %s", error, extra={"action": "stream_unavailable"})
    except Exception:
        # It is too late for another answer. The client comes back, with what it has seen.
        logger.exception("A stream failed", extra={"action": "stream_failed"})
    await stream.close()
    return stream.response
