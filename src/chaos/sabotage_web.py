"""Ways to break a web on purpose; applied inside its process, before it begins.

Each takes away one guard, and leaves everything else as it is.
"""

# ruff: noqa: ARG001 - what stands in the place of a method takes what the method takes

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from ..models.assessment import AssessmentState
from ..models.errors import RejectedError
from ..models.positions import Positions
from ..store import cache, cache_scripts, reads
from ..store.encryption import NO_KEYS
from ..store.queries import QUERIES
from ..store.rows import rejection_from_row
from ..web import commands, lists, streams, waiters, writes
from ..web import reads as web_reads

# Long enough that a well worker has answered, and shorter than anybody waits.
_GUESS_SECONDS = 0.5

# What a garbage collection or a slow network may take.
_SLOW_FILL_SECONDS = 0.4

_LEADS_TO = {
    "assessment.start": AssessmentState.PROCESSING,
    "assessment.progress": AssessmentState.PROCESSING,
    "assessment.complete": AssessmentState.COMPLETED,
    "assessment.fail": AssessmentState.FAILED,
    "assessment.cancel": AssessmentState.CANCELLED,
    "assessment.retry": AssessmentState.PENDING,
}


def made_up_answer() -> None:
    """Where no reply comes in time, the answer is what it most likely is."""
    outcome = commands.Commands._outcome

    async def guess(self: commands.Commands, header: Any, replies: Any) -> commands.Applied:
        try:
            async with asyncio.timeout(_GUESS_SECONDS):
                return await outcome(self, header, replies)
        except TimeoutError:
            state = await _READER[0].get(header.assessment_id)
            if state is None or header.type not in _LEADS_TO:
                raise
            likely = {"state": _LEADS_TO[header.type], "version": state.version + 1}
            return commands.Applied(state.model_copy(update=likely), replayed=False)

    _remember_reader()
    commands.Commands._outcome = guess  # type: ignore[method-assign]


_READER: list[reads.StateReader] = []


def _remember_reader() -> None:
    begin = reads.StateReader.__init__

    def remembering(self: reads.StateReader, router: Any, cache: Any, keys: Any = NO_KEYS) -> None:
        begin(self, router, cache, keys)
        _READER.append(self)

    reads.StateReader.__init__ = remembering  # type: ignore[method-assign]


def accept_early() -> None:
    """A command is accepted (202) before Kafka has it."""
    sending: set[asyncio.Task[None]] = set()

    async def publish(self: commands.Commands, command: Any) -> None:
        task = asyncio.create_task(_send_quietly(self, command))
        sending.add(task)
        task.add_done_callback(sending.discard)

    commands.Commands.publish = publish  # type: ignore[method-assign]


async def _send_quietly(self: commands.Commands, command: Any) -> None:
    try:
        await self._send(command, self._deadline())
    except RejectedError:
        return  # nobody waits for this any more


def ignore_token() -> None:
    """However fresh a read has to be, it is answered with what is at hand."""

    def consistency(request: Any) -> Positions | None:
        return None

    for module in (web_reads, lists, streams, waiters):
        module.consistency = consistency  # type: ignore[attr-defined]


def ignore_min_version() -> None:
    """Whichever version a read insists on, it gets the one at hand."""

    async def at_least(request: Any, user: Any, min_version: int) -> Any:
        return await web_reads.visible(request, user)

    web_reads._at_least = at_least


def cache_forever() -> None:
    """Each state is kept in memory, also one that will change."""

    def keep(self: cache.MemoryCache, state: Any) -> None:
        self._entries[state.assessment_id] = state.to_json()

    cache.MemoryCache.set = keep  # type: ignore[method-assign]


def no_version_guard() -> None:
    """What was read from Postgres goes into Redis whatever is there by then, and slowly."""
    cache_scripts.SET_IF_NEWER = cache_scripts.SET_IF_NEWER.replace("if not version or", "if true or")
    slow_fill()


def slow_fill() -> None:
    """What was read from Postgres goes into Redis slowly: no sabotage, but a fault that the version guard is for."""
    fill = cache.SharedCache.bulk_set

    async def slowly(self: cache.SharedCache, states: Any, generation: bytes) -> None:
        await asyncio.sleep(_SLOW_FILL_SECONDS)
        await fill(self, states, generation)

    cache.SharedCache.bulk_set = slowly  # type: ignore[method-assign]


def wake_is_enough() -> None:
    """A wait is over with the first news, whatever the news are."""

    def changed(self: waiters.Waiters, message: bytes) -> None:
        for assessment_id, version, _ in orjson.loads(message):
            if assessment_id in self._waiting:
                self._changed[assessment_id] = version
                self._woken.set()

    def resolve(self: waiters.Waiters, states: Any) -> None:
        for state in states:
            for future in self._waiting.get(state.assessment_id, ()):
                if not future.done():
                    future.set_result(state)

    waiters.Waiters.changed = changed  # type: ignore[method-assign]
    waiters.Waiters._resolve = resolve  # type: ignore[method-assign]


def forget_the_key() -> None:
    """The Idempotency-Key is not looked at."""

    def no_key(values: list[str]) -> str | None:
        return None

    writes.idempotency_key = no_key  # type: ignore[attr-defined]


def ignore_if_match() -> None:
    """If-Match is not looked at."""

    def any_version(values: list[str]) -> int | None:
        return None

    writes.expected_version = any_version  # type: ignore[attr-defined]


def answer_with_now() -> None:
    """A command that comes again is answered with the present state, not with its first answer."""

    async def present(self: reads.OutcomeReader, command_id: str, fingerprint: bytes) -> Any:
        async with self._pool.acquire() as connection:
            accepted = await connection.fetchrow(QUERIES["accepted_command"], command_id)
            refused = accepted or await connection.fetchrow(QUERIES["refused_command"], command_id)
            if accepted is not None:
                return await reads._get_state(accepted["assessment_id"], connection)
            return None if refused is None else rejection_from_row(refused)

    reads.OutcomeReader.get = present  # type: ignore[method-assign]


def streams_from_now() -> None:
    """A stream that comes back goes on with what happens from then on."""

    def resume_one(last_id: str | None, version: int) -> tuple[int, str | None]:
        return (0 if last_id is None else version), None

    def resume(last_id: str | None, bounds: Any) -> Any:
        return bounds.end, None

    streams.resume_one = resume_one  # type: ignore[attr-defined]
    streams.resume = resume  # type: ignore[attr-defined]


BREAKERS: dict[str, Callable[[], None]] = {
    "made-up-answer": made_up_answer,
    "accept-early": accept_early,
    "ignore-token": ignore_token,
    "ignore-min-version": ignore_min_version,
    "cache-forever": cache_forever,
    "no-version-guard": no_version_guard,
    "slow-fill": slow_fill,
    "wake-is-enough": wake_is_enough,
    "forget-the-key": forget_the_key,
    "ignore-if-match": ignore_if_match,
    "answer-with-now": answer_with_now,
    "streams-from-now": streams_from_now,
}
