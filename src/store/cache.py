"""The caches in front of Postgres: Redis, which everybody shares, and a memory layer for what never changes again.

Redis holds a hash for each assessment (`v` its version, `d` its JSON) and, for each command partition, the position
up to which it reflects the truth. A worker that finds another position than its last one catches Redis up from the
audit trail, so that neither an outage of Redis nor a crash leaves an old state behind.

A Redis that lost a position may have been filled since by readers, with states that are old by now and that no position
vouches for. So a position begins anew like this:

1. There is another generation: whoever read Postgres before, and fills now, is refused.
2. Every state is forgotten.
3. The position is set: what is filled from here on was read after all that it stands for.

Whoever forgets entries begins another generation too: a reader must not fill in again what was just deleted.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
from cachetools import TTLCache
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ResponseError

from ..models.assessment import UNCHANGING_STATES, AssessmentRecord
from ..models.positions import Positions
from . import cache_scripts
from .copies import read_copies, read_copy
from .redis import REDIS_SECONDS, RedisBreaker, WriteProbe, redis_errors

# How long a state that nobody changes stays in Redis (the reference's cache.ttl).
_TTL_MILLISECONDS = 300_000

_NAMES_AT_ONCE = 500

_MEMORY_BYTES = 64 * 1024 * 1024
_MEMORY_SECONDS = 300

Message = tuple[str, bytes]
"""A channel, without the prefix, and what is published on it."""

CHANGES = "changes"
"""The channel that tells of each batch which assessments changed: `[[id, version, state], …]`."""


DELETED = "deleted"
"""The channel that tells which assessments were deleted: `[id, …]`."""


def reply_channel(reply_to: str) -> str:
    """The channel of one HTTP process that waits for outcomes."""
    return f"replies:{reply_to}"


class CacheEntry(NamedTuple):
    """What Redis has of one assessment, byte for byte."""

    version: bytes
    value: bytes
    """The state as JSON."""


class Lookup(NamedTuple):
    """What Redis answers about one assessment."""

    state: AssessmentRecord | None
    generation: bytes
    """Of Redis: where the state is read elsewhere after this, it is filled in under that."""


class SharedCache:
    """Redis, behind a breaker: while it is away every call raises UnavailableError at once."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._breaker = RedisBreaker()
        self._probe = WriteProbe(redis, f"{prefix}probe", self._breaker)

    async def get(self, assessment_id: str, positions: Positions | None = None) -> Lookup:
        """One assessment, where Redis has it and reflects every command below some positions.

        Raises:
            UnavailableError: Redis is away.
        """
        partitions = [] if positions is None else list(positions.needed)
        with self._breaker.guard():
            pipeline = self._redis.pipeline(transaction=False)
            # First the positions, then the state: it is at least as fresh as they were.
            pipeline.mget([self._generation_key, *map(self._position_key, partitions)])
            pipeline.hget(self._key(assessment_id), "d")
            (generation, *reflected), value = await _answers(pipeline)
        applied = _positions(partitions, reflected)
        fresh = positions is None or positions.reached_by(applied)
        state = read_copy(assessment_id, value) if value is not None and fresh else None
        return Lookup(state, generation or b"")

    async def bulk_get(self, assessment_ids: Collection[str]) -> dict[str, AssessmentRecord]:
        """Those of several assessments that Redis has.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            pipeline = self._redis.pipeline(transaction=False)
            for assessment_id in assessment_ids:
                pipeline.hget(self._key(assessment_id), "d")
            found = await _answers(pipeline)
        pairs = zip(assessment_ids, found, strict=True)
        return read_copies({key: value for key, value in pairs if value is not None})

    async def scan(self, kind: str) -> AsyncIterator[list[str]]:
        """The names of all entries of a kind, `assessment` or `position`, some at a time; one may come twice.

        Raises:
            UnavailableError: Redis is away.
        """
        start = f"{self._prefix}{kind}:"
        names: list[str] = []
        with redis_errors():
            async for key in self._redis.scan_iter(match=f"{_literal(start)}*", count=_NAMES_AT_ONCE):
                names.append(key.decode(errors="replace").removeprefix(start))
                if len(names) == _NAMES_AT_ONCE:
                    yield names
                    names = []
        if names:
            yield names

    async def entries(self, assessment_ids: Collection[str]) -> dict[str, CacheEntry]:
        """Those of several assessments that Redis has, byte for byte; what is no entry at all is an empty one.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            pipeline = self._redis.pipeline(transaction=False)
            for assessment_id in assessment_ids:
                pipeline.hmget(self._key(assessment_id), "v", "d")
            found = await _answers(pipeline)
        entries = zip(assessment_ids, map(_entry, found), strict=True)
        return {key: entry for key, entry in entries if entry is not None}

    async def positions(self, partitions: Collection[int]) -> dict[int, int]:
        """The offsets below which Redis reflects every command, of those partitions where it knows.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            found = await self._redis.mget([self._position_key(partition) for partition in partitions])
        return _positions(partitions, found)

    async def generation(self) -> bytes:
        """What tells one time of Redis from another, to be asked for before what is filled in is read.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            found = await self._redis.get(self._generation_key)
        return found if isinstance(found, bytes) else b""

    async def bulk_set(self, states: Iterable[AssessmentRecord], generation: bytes) -> None:
        """Fill in states that were read elsewhere; no older version ever replaces a newer one.

        Args:
            states: as they were read.
            generation: of Redis, before they were read; in another one nothing is filled in.

        Raises:
            UnavailableError: Redis is away.
        """
        states = list(states)
        if not states:
            return
        keys = [self._generation_key, *(self._key(state.assessment_id) for state in states)]
        arguments = [item for state in states for item in (state.version, state.to_json())]
        with self._breaker.guard():
            await self._redis.eval(
                cache_scripts.SET_IF_NEWER, len(keys), *keys, _TTL_MILLISECONDS, generation, *arguments
            )

    async def invalidate(self, assessment_ids: Collection[str]) -> None:
        """Forget assessments.

        Raises:
            UnavailableError: Redis is away.
        """
        if assessment_ids:
            with self._breaker.guard():
                await self._forgetting(assessment_ids).execute()

    async def evict(self, assessment_ids: Collection[str]) -> None:
        """Forget assessments that were deleted, and tell every process to do so.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            pipeline = self._forgetting(assessment_ids)
            pipeline.publish(self._prefix + DELETED, orjson.dumps(list(assessment_ids)))
            await pipeline.execute()

    def _forgetting(self, assessment_ids: Collection[str]) -> Pipeline:
        """Begin another generation, so that whoever has read one of them before, and fills it in now, is refused."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.set(self._generation_key, uuid4().hex)
        pipeline.delete(*map(self._key, assessment_ids))
        return pipeline

    async def reflect(
        self,
        partition: int,
        *,
        start: int,
        end: int,
        states: Mapping[str, tuple[int, bytes]],
        created: Collection[str] = (),
        messages: Iterable[Message] = (),
        may_begin: bool = False,
    ) -> int:
        """Take over what the offsets `start` to `end` - 1 of a partition changed, and publish messages, in one go.

        Args:
            partition: of the commands topic.
            start: the position that Redis should be at.
            end: the position that it is at afterwards.
            states: version and JSON of each changed assessment.
            created: those that are new: whatever Redis has of them is of one that was deleted.
            messages: what to publish, whatever the position is.
            may_begin: whether, where Redis has no position, all that it has is known to be as new as `start`; else it
                forgets everything first.

        Returns:
            The position that Redis is at now: `end`, or where it missed something before `start`, what it was at.

        Raises:
            UnavailableError: Redis is away.
        """
        if created:
            states = {**{key: states[key] for key in created}, **states}
        keys = [self._position_key(partition), *map(self._key, states), self._generation_key]
        about = (_TTL_MILLISECONDS, start, end, len(created))
        arguments = [item for state in states.values() for item in state]
        with self._breaker.guard():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.eval(cache_scripts.REFLECT, len(keys), *keys, *about, int(may_begin), *arguments)
            for channel, message in messages:
                pipeline.publish(self._prefix + channel, message)
            position, *_ = await pipeline.execute()
            if position is None:
                await self._forget_states()
                position = await self._redis.eval(cache_scripts.REFLECT, len(keys), *keys, *about, 1, *arguments)
        return int(position)

    async def forget_position(self, partition: int) -> None:
        """Let the next `reflect` of a partition start anew.

        Raises:
            UnavailableError: Redis is away.
        """
        with self._breaker.guard():
            await self._redis.delete(self._position_key(partition))

    async def forget_all(self) -> None:
        """Forget every state and position: what Redis has may be of a database that is lost.

        Raises:
            UnavailableError: Redis is away.
        """
        # First the positions: a state that nobody vouches for is asked of Postgres.
        async for names in self.scan("position"):
            with redis_errors():
                await self._redis.unlink(*(f"{self._prefix}position:{name}" for name in names))
        await self._forget_states()

    async def _forget_states(self) -> None:
        """Begin another generation, and forget the states of all before."""
        with redis_errors():
            await self._redis.set(self._generation_key, uuid4().hex)
        async for names in self.scan("assessment"):
            with redis_errors():
                await self._redis.unlink(*map(self._key, names))

    async def messages(self, *channels: str) -> AsyncIterator[Message]:
        """Listen on channels; an empty message on the first tells that the subscription stands.

        Raises:
            UnavailableError: the connection was lost; subscribe again, and look at what may have been missed.
        """
        names = {(self._prefix + channel).encode(): channel for channel in channels}
        with redis_errors():
            async with self._redis.pubsub() as pubsub:
                await pubsub.subscribe(*names)
                while True:
                    message: dict[str, Any] | None = await pubsub.get_message(timeout=REDIS_SECONDS)
                    if message is not None and message["type"] == "message":
                        yield names[message["channel"]], message["data"]
                    elif message is not None:
                        yield channels[0], b""

    async def watch(self) -> None:
        """See again and again whether Redis takes writes, until cancelled; while it does not, it counts as away."""
        await self._probe.run()

    async def ping(self) -> dict[str, str]:
        """Ask Redis how it is.

        Raises:
            UnavailableError: it does not answer, or takes no writes.
        """
        await self._probe.write()
        with redis_errors():
            information = await self._redis.info("server")
        return {"version": str(information["redis_version"])}

    @property
    def _generation_key(self) -> str:
        return f"{self._prefix}generation"

    def _key(self, assessment_id: str) -> str:
        return f"{self._prefix}assessment:{assessment_id}"

    def _position_key(self, partition: int) -> str:
        return f"{self._prefix}position:{partition}"


class MemoryCache:
    """States that no command changes any more, least recently used out first, bounded in bytes."""

    def __init__(self) -> None:
        self._entries: TTLCache[str, bytes] = TTLCache(_MEMORY_BYTES, _MEMORY_SECONDS, getsizeof=len)

    def get(self, assessment_id: str) -> AssessmentRecord | None:
        """An unchanging state, where it was seen before."""
        entry = self._entries.get(assessment_id)
        return None if entry is None else AssessmentRecord.from_json(entry)

    def set(self, state: AssessmentRecord) -> None:
        """Keep a state, if it is one that never changes again."""
        if state.state in UNCHANGING_STATES:
            entry = state.to_json()
            if len(entry) <= self._entries.maxsize:
                self._entries[state.assessment_id] = entry

    def invalidate(self, assessment_id: str) -> None:
        """Forget a state."""
        self._entries.pop(assessment_id, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


def _positions(partitions: Iterable[int], found: Iterable[Any]) -> dict[int, int]:
    """The positions that Redis has; one that is no number is none."""
    return {
        number: int(end) for number, end in zip(partitions, found, strict=True) if end is not None and end.isdigit()
    }


async def _answers(pipeline: Pipeline) -> list[Any]:
    """All answers; nothing where a key has another type than it should: that is no outage of Redis."""
    answers: list[Any] = await pipeline.execute(raise_on_error=False)
    for place, answer in enumerate(answers):
        if isinstance(answer, ResponseError) and str(answer).startswith("WRONGTYPE"):
            answers[place] = None
        elif isinstance(answer, Exception):
            raise answer
    return answers


def _entry(found: Any) -> CacheEntry | None:
    """An entry as it stands there; nothing where there is none, and an empty one of what is no hash."""
    version, value = (b"", b"") if found is None else found
    return None if version is None and value is None else CacheEntry(version or b"", value or b"")


def _literal(prefix: str) -> str:
    """A prefix as a pattern that matches it alone: of its characters only these mean something to Redis."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix)


def changes_message(states: Iterable[AssessmentRecord]) -> Message:
    """Tell which assessments changed."""
    return CHANGES, orjson.dumps([[state.assessment_id, state.version, state.state] for state in states])
