"""Ways to break a worker on purpose; applied inside its process, before it begins.

Each takes away one guard, and leaves everything else as it is.
"""

# ruff: noqa: ARG001 - what stands in the place of a method takes what the method takes

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from ..agents import commands, committer, crash_points, fold, publisher
from ..kafka import kafka_connection
from ..models.machine import decide
from ..models.retries import NO_RETRIES
from ..settings import Settings
from ..store import batch, cache_scripts
from ..store.postgres import postgres_errors
from ..store.queries import QUERIES
from ..store.replies import reply_message
from ..store.rows import columns


def no_fence() -> None:
    """A batch moves the applied position whoever owns the partition."""
    QUERIES["advance_partitions"] = """
        UPDATE command_offsets AS fence SET next_offset = move.next_offset
        FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[])
            AS move (topic, partition, epoch, from_offset, next_offset)
        WHERE fence.topic = move.topic AND fence.partition = move.partition
        RETURNING fence.partition, NOW() AS now
    """


def no_resume() -> None:
    """What was committed but not published is forgotten."""

    async def resume(self: Any) -> None:
        self._published = True

    commands.PartitionProcessor._resume = resume  # type: ignore[method-assign]


def no_duplicate_check() -> None:
    """No command id has been seen before."""

    async def known(self: batch.BatchTransaction, command_ids: Collection[str]) -> dict[str, bytes]:
        return {}

    batch.BatchTransaction.known = known  # type: ignore[method-assign]


def no_group_of_its_own() -> None:
    """The emitted watermark is kept where the consumer commits, as a plain transactional loop would do it."""
    Settings.emitted_group = property(lambda self: self.app_id)  # type: ignore[assignment,method-assign]


def no_version_check() -> None:
    """The version that a command insists on is not looked at."""

    def careless(record: Any, command: Any, now: Any, retries: Any = NO_RETRIES) -> Any:
        return decide(record, command._replace(expected_version=None), now, retries)

    fold.decide = careless  # type: ignore[attr-defined]


def position_first() -> None:
    """The applied position is committed before the batch, as whoever commits offsets first does."""

    @asynccontextmanager
    async def transaction(
        self: batch.BatchStore, moves: Mapping[batch.PartitionClaim, int]
    ) -> AsyncIterator[batch.BatchTransaction]:
        rows = [(claim.topic, claim.partition, claim.epoch, claim.next_offset, end) for claim, end in moves.items()]
        with postgres_errors():
            async with self._pool.acquire() as connection:
                moved = await connection.fetch(QUERIES["advance_partitions"], *columns(rows))
                if len(moved) < len(moves):
                    raise batch.FencedError("a partition is no longer in the epoch of its claim")
                async with connection.transaction():
                    yield batch.BatchTransaction(connection, moved[0]["now"])

    batch.BatchStore.transaction = transaction  # type: ignore[method-assign]


def answer_before_commit() -> None:
    """Whoever waits is answered as soon as the batch is decided."""

    async def answer(processor: Any, folded: fold.Folded) -> None:
        cache = processor._shared.cache
        for header, outcome in folded.replies:
            channel, message = reply_message(header, outcome)
            await cache._redis.publish(cache._prefix + channel, message)

    _once_decided(answer)


def emit_before_commit() -> None:
    """Events are out before Postgres has what they tell."""

    async def emit(processor: Any, folded: fold.Folded) -> None:
        position = processor._claimed.next_offset
        await processor._publishing.publish(processor._partition, folded.changes.outbox(), position)

    async def nothing(self: Any, folded: Any, end: int) -> None:
        self._published = True

    _once_decided(emit)
    commands.PartitionProcessor._publish = nothing  # type: ignore[method-assign]


def _once_decided(act: Callable[[Any, fold.Folded], Awaitable[None]]) -> None:
    """Do something for each partition of a transaction as soon as its batch is decided, and before the commit."""
    processors: dict[int, Any] = {}
    commit, decide_all = commands.PartitionProcessor._commit, committer.Committer._decide

    async def remembered(self: Any, batch: Any) -> fold.Folded:
        processors[self._partition] = self
        return await commit(self, batch)

    async def hasty(self: Any, transaction: Any, shares: Any, *, fresh: bool) -> list[fold.Folded]:
        decided = await decide_all(self, transaction, shares, fresh=fresh)
        for share, folded in zip(shares, decided, strict=True):
            await act(processors[share.claim.partition], folded)
        return decided

    commands.PartitionProcessor._commit = remembered  # type: ignore[method-assign]
    committer.Committer._decide = hasty  # type: ignore[method-assign]


def no_producer_fence() -> None:
    """Whoever takes a partition lets the producers before go on."""

    async def fence(self: Any, names: Any) -> None:
        return

    publisher.Publishers.fence = fence  # type: ignore[method-assign]


def emit_outside_transaction() -> None:
    """Events go out by a producer that knows no transactions; only the watermark is committed in one."""
    plain: dict[str, AIOKafkaProducer] = {}

    async def send(self: Any, producer: Any, place: Any, records: Any) -> list[Any]:
        servers = self._settings.kafka_bootstrap
        if servers not in plain:
            plain[servers] = AIOKafkaProducer(**kafka_connection(self._settings), acks="all")
            await plain[servers].start()
        return [
            await plain[servers].send(place.topic, value, key, partition=place.partition, headers=list(headers))
            for key, value, headers in records
        ]

    publisher.Publisher._send = send  # type: ignore[method-assign]


def drop_junk() -> None:
    """What is no command is passed over without a word."""
    add = fold._Folding.add

    def forgetful(self: Any, decoded: fold.Decoded) -> None:
        if decoded.header is not None:
            add(self, decoded)

    fold._Folding.add = forgetful  # type: ignore[method-assign]


def no_catch_up() -> None:
    """A Redis that missed something is told that it did not."""

    async def pretend(self: Any) -> None:
        cache, end = self._shared.cache, self._claimed.next_offset
        await cache._redis.set(cache._position_key(self._partition), end)
        self._cache_position = end

    commands.PartitionProcessor._catch_up_cache = pretend  # type: ignore[method-assign]


def no_version_guard() -> None:
    """Redis takes whatever comes last, be it older."""
    cache_scripts.SET_IF_NEWER = cache_scripts.SET_IF_NEWER.replace("if not version or", "if true or")
    cache_scripts.REFLECT = cache_scripts.REFLECT.replace("or not version or", "or true or")


def publish_before_refresh() -> None:
    """Events are out before Redis knows of them, by as much as a slow Redis takes."""
    refresh, publish = commands.PartitionProcessor._refresh, commands.PartitionProcessor._publish

    async def no_refresh(self: Any, folded: Any, end: int) -> None:
        return

    async def publish_then_refresh(self: Any, folded: Any, end: int) -> None:
        await publish(self, folded, end)
        await asyncio.sleep(0.05)
        await refresh(self, folded, end)

    commands.PartitionProcessor._refresh = no_refresh  # type: ignore[method-assign]
    commands.PartitionProcessor._publish = publish_then_refresh  # type: ignore[method-assign]


def freeze() -> None:
    """At the armed crash point the worker stops as with SIGSTOP, instead of dying: no sabotage, but a fault."""

    def reach(self: Any, point: crash_points.CrashPoint) -> None:
        if point is self._armed:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)

    crash_points.CrashPoints.reach = reach  # type: ignore[method-assign]


BREAKERS: dict[str, Callable[[], None]] = {
    "no-fence": no_fence,
    "no-producer-fence": no_producer_fence,
    "no-resume": no_resume,
    "no-duplicate-check": no_duplicate_check,
    "no-group-of-its-own": no_group_of_its_own,
    "no-version-check": no_version_check,
    "position-first": position_first,
    "answer-before-commit": answer_before_commit,
    "emit-before-commit": emit_before_commit,
    "emit-outside-transaction": emit_outside_transaction,
    "drop-junk": drop_junk,
    "no-catch-up": no_catch_up,
    "no-version-guard": no_version_guard,
    "publish-before-refresh": publish_before_refresh,
    "freeze": freeze,
}
