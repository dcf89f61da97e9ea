"""An old system beside the store: it tells of its assessments on Kafka, through a bridge that is killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from aiokafka.errors import KafkaError

from ..dev.access import local_url
from ..dev.children import Child, start
from ..kafka import idempotent_producer
from ..models.errors import AssessmentStoreError
from ..services.processes import free_ports
from ..settings import ENV_PREFIX, Settings
from .installation import Installation
from .plan import Fault
from .topics import TopicRecord, committed_offsets, end_offsets, read_topic

_PORTS = range(15_000, 16_000)

_LIVES = 25

_POLL_SECONDS = 0.2
_PAUSE_SECONDS = 0.5

# From the last event on; what the bridge has not taken by then is missing.
_LATE_SECONDS = 150.0

UNTOLD = """
SELECT count(*) FROM command_offsets AS fence LEFT JOIN legacy_told AS told USING (partition)
WHERE coalesce(told.next_offset, 0) < fence.next_offset
"""
"""Partitions of which the old system's listeners do not know all."""


def events(seed: int) -> list[dict[str, Any]]:
    """What it tells, under some of its names; one event in five is told twice."""
    lives = [list(_life(f"s{seed}.bridge.a{number}", number)) for number in range(_LIVES)]
    mixed = [life[step] for step in range(max(map(len, lives))) for life in lives if step < len(life)]
    return [event for number, event in enumerate(mixed) for _ in range(2 if number % 5 == 0 else 1)]


def _life(name: str, number: int) -> Iterator[dict[str, Any]]:
    ends: list[dict[str, Any]] = [
        {"type": "AssessmentCompleted", "result": {"overallScore": number, "totalServers": 1}},
        {"type": "assessment_failed", "error": f"old error {number}"},
        {"event": "assessment.cancelled", "reason": "not wanted"},
    ]
    told: list[dict[str, Any]] = [
        {"type": "assessment_created", "data": {"assessmentType": "health", "options": {}, "userId": "old"}},
        {"event": "assessment.stateChanged", "newState": "in_progress"},
        {"type": "assessment.progress", "progress": number},
        ends[number % len(ends)],
    ]
    for step, event in enumerate(told):
        yield event | {"assessmentId": name, "eventId": f"{name}.{step}"}


class OldSystem:
    """The old system, and the bridge to it, in a process of its own."""

    def __init__(self, seed: int, folder: Path, broken: str) -> None:
        """Take what is needed to start the bridge.

        Args:
            seed: of the run.
            folder: for its log.
            broken: the name of a sabotage, or nothing.
        """
        self.told = events(seed)
        self.notifications: list[TopicRecord] = []
        """What its listeners were told, in the order of each partition."""
        self._folder = folder
        self._broken = broken
        self._child: Child | None = None
        (self._port,) = free_ports(1, among=_PORTS)

    async def happen(self, fault: Fault, installation: Installation) -> None:
        """Tell everything, kill the bridge in the middle, and return when all is taken; the bridge goes on."""
        await self._start(installation)
        await self._until_it_runs()
        half = len(self.told) // 2
        await self._tell(self.told[:half], fault.seconds / 2, installation.settings)
        await self.stop()
        await self._start(installation)
        await self._tell(self.told[half:], fault.seconds / 2, installation.settings)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LATE_SECONDS):
                while not await self._is_taken(installation.settings):
                    await self._start(installation)
                    await asyncio.sleep(_POLL_SECONDS)

    async def read(self, settings: Settings) -> None:
        """Read what its listeners were told."""
        topic = settings.legacy_notifications_topic
        found = await read_topic(settings, topic, settings.topic_partitions)
        self.notifications = [record for records in found.values() for record in records]

    async def stop(self) -> None:
        """Kill the bridge."""
        if self._child is not None:
            self._child.kill()
            await self._child.process.wait()

    async def _start(self, installation: Installation) -> None:
        """Start the bridge where it does not run: without its services it does not even begin."""
        if self._child is not None and self._child.process.returncode is None:
            return
        self._child = await start(
            "legacy",
            installation.environment() | {f"{ENV_PREFIX}BRIDGE_PORT": str(self._port)},
            self._folder / "logs" / "bridge.log",
            program=("assessmentstore.chaos.child", self._broken or "-"),
            arguments=("bridge",),
            folder=self._folder,
        )

    async def _until_it_runs(self) -> None:
        """Wait for the bridge, so that it is killed in full flow; where its services are away, it may end instead."""
        if self._child is not None:
            ready = asyncio.create_task(self._child.ready(local_url(self._port)))
            ended = asyncio.create_task(self._child.process.wait())
            try:
                await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ready.cancel()
                ended.cancel()
                await asyncio.gather(ready, ended, return_exceptions=True)

    async def _tell(self, told: list[dict[str, Any]], seconds: float, settings: Settings) -> None:
        """Put events on the topic, those of an assessment in their order; again, where it is not sure that they are."""
        left = list(told)
        while left:
            try:
                async with idempotent_producer(settings) as producer:
                    while left:
                        key = left[0]["assessmentId"].encode()
                        await producer.send_and_wait(settings.legacy_events_topic, orjson.dumps(left[0]), key)
                        del left[0]
                        await asyncio.sleep(seconds / len(told))
            except (AssessmentStoreError, KafkaError, OSError):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _is_taken(self, settings: Settings) -> bool:
        topic = settings.legacy_events_topic
        try:
            ends = await end_offsets(settings, topic, settings.topic_partitions)
        except (KafkaError, OSError):
            return False
        done = await committed_offsets(settings, f"{settings.app_id}-legacy", topic)
        return all(done.get(partition) == end for partition, end in ends.items() if end)
