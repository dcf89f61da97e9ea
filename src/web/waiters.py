"""Waiting for the end of assessments: a future for each waiter, woken over Redis or found by a bulk look at Postgres.

A wait ends when a look finds the assessment completed, failed or cancelled. One that failed and was put back to
pending before anybody looked has not ended: the wait goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import orjson
from aiohttp import web

from ..models.assessment import FINAL_STATES, AssessmentRecord
from ..models.errors import ErrorCode, RejectedError, Rejection, UnavailableError
from ..telemetry import WAITERS
from .auth import Permission, User, authorize, check_owner
from .freshness import consistency
from .queries import read_query
from .reads import json_response, visible
from .requests import WaitQuery

logger = logging.getLogger(__name__)

# While wake-ups come over Redis, Postgres is asked just in case one was lost.
_SLOW_POLL = 5.0
_FAST_POLL = 0.5

_CHUNK = 1000
"""Ids in one query."""


class FinalStates(Protocol):
    """Whoever knows the truth about several assessments."""

    async def final_states(self, assessment_ids: Collection[str]) -> Sequence[AssessmentRecord]:
        """Those of several assessments that have ended.

        Raises:
            UnavailableError: the truth cannot be asked.
        """


class States(Protocol):
    """Whoever has many states at hand, perhaps not the newest."""

    async def bulk_get(self, assessment_ids: Collection[str]) -> Mapping[str, AssessmentRecord]:
        """Those of several states that are there.

        Raises:
            UnavailableError: nobody answers.
        """


class Waiters:
    """Everybody in this process who waits for an assessment to end."""

    def __init__(self, truth: FinalStates, cache: States) -> None:
        self._truth = truth
        self._cache = cache
        self._waiting: dict[str, set[asyncio.Future[AssessmentRecord]]] = {}
        self._changed: dict[str, int] = {}
        self._woken = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._listening = False
        self._blind = False
        self._stopping = False

    @contextmanager
    def expect(self, assessment_id: str) -> Iterator[asyncio.Future[AssessmentRecord]]:
        """A future that gets the state once the assessment has ended; look at the state after this, not before.

        Raises:
            UnavailableError: the service is stopping; the future gets this too.
        """
        if self._stopping:
            raise UnavailableError("The service is stopping")
        future: asyncio.Future[AssessmentRecord] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(assessment_id, set()).add(future)
        WAITERS.inc()
        try:
            yield future
        finally:
            WAITERS.dec()
            future.cancel()
            self._waiting[assessment_id].discard(future)
            if not self._waiting[assessment_id]:
                del self._waiting[assessment_id]

    def changed(self, message: bytes) -> None:
        """Take the news that assessments changed."""
        for assessment_id, version, state in orjson.loads(message):
            if state in FINAL_STATES and assessment_id in self._waiting:
                self._changed[assessment_id] = version
                self._woken.set()

    def subscribed(self) -> None:
        """News come from now on; some may have been missed before."""
        self._listening = True
        self._poll_now.set()

    def lost(self) -> None:
        """News don't come for now."""
        self._listening = False
        self._poll_now.set()

    def stop(self) -> None:
        """End every wait without an answer."""
        self._stopping = True
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(UnavailableError("The service is stopping"))

    async def wake(self) -> None:
        """Wake whoever waits for what the news tell of, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            changed, self._changed = self._changed, {}
            for ids in _chunks(changed):
                self._resolve(await self._states({key: changed[key] for key in ids}))

    async def poll(self) -> None:
        """Look at everything that is waited for, now and then, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_SLOW_POLL if self._listening else _FAST_POLL):
                    await self._poll_now.wait()
            except TimeoutError:
                pass  # the pause is over
            self._poll_now.clear()
            for ids in _chunks(self._waiting):
                self._resolve(await self._final(ids))

    async def _states(self, changed: Mapping[str, int]) -> list[AssessmentRecord]:
        """States of the versions told, from Redis, which was refreshed before the news; else from Postgres."""
        try:
            found = await self._cache.bulk_get(list(changed))
        except UnavailableError:
            found = {}
        fresh = [state for key, state in found.items() if state.version >= changed[key]]
        behind = changed.keys() - {state.assessment_id for state in fresh}
        return fresh + (list(await self._final(behind)) if behind else [])

    async def _final(self, assessment_ids: Collection[str]) -> Sequence[AssessmentRecord]:
        try:
            states = await self._truth.final_states(assessment_ids)
        except UnavailableError as error:
            if not self._blind:
                logger.warning("Waits go on without Postgres: %s", error, extra={"action": "waits_unavailable"})
            self._blind = True
            return []
        self._blind = False
        return states

    def _resolve(self, states: Iterable[AssessmentRecord]) -> None:
        for state in states:
            for future in self._waiting.get(state.assessment_id, ()):
                if state.is_final and not future.done():
                    future.set_result(state)


WAITING = web.AppKey("waiting", Waiters)


async def wait(request: web.Request) -> web.Response:
    """`GET /assessments/{id}/wait`."""
    user = authorize(request, Permission.VIEW)
    timeout = read_query(request, WaitQuery).timeout
    with request.app[WAITING].expect(request.match_info["id"]) as ended:
        state = await _known(request, user)
        if state is None or not state.is_final:
            try:
                async with asyncio.timeout(timeout / 1000):
                    state = await _fresh(request, user, await ended)
            except TimeoutError:
                # Who knows nothing by now is told why: Postgres is away, or behind the Consistency-Token.
                state = (await _known(request, user) or state) if state else await visible(request, user)
    check_owner(user, state)
    if not state.is_final:
        raise _timed_out(state, timeout)
    return json_response(
        {
            "assessmentId": state.assessment_id,
            "status": state.state,
            "result": state.result_data,
            "error": state.error_message,
            "duration": state.duration,
        }
    )


async def _fresh(request: web.Request, user: User, ended: AssessmentRecord) -> AssessmentRecord:
    """The end that was found; for whoever brings a `Consistency-Token`, one that is no older than that.

    What is found may be the end of an attempt before a retry that the token stands for, and that is not applied yet.
    """
    while consistency(request) is not None:
        with request.app[WAITING].expect(ended.assessment_id) as again:
            state = await _known(request, user)
            if state is not None and state.is_final:
                return state
            await again
    return ended


async def _known(request: web.Request, user: User) -> AssessmentRecord | None:
    """The state as far as it is known; a wait outlasts Postgres being away."""
    try:
        return await visible(request, user)
    except UnavailableError as error:
        logger.info("A wait begins or ends without Postgres: %s", error, extra={"action": "wait_unavailable"})
        return None


def _timed_out(state: AssessmentRecord, timeout: int) -> RejectedError:
    words = f"Assessment {state.assessment_id} has not ended within {timeout} ms: ask again to wait on"
    details = {"timeout": timeout, "state": state.state, "progress": state.progress, "version": state.version}
    return RejectedError(Rejection(ErrorCode.TIMEOUT, words, details), assessment_id=state.assessment_id)


def _chunks(ids: Iterable[str]) -> list[list[str]]:
    whole = list(ids)
    return [whole[start : start + _CHUNK] for start in range(0, len(whole), _CHUNK)]
