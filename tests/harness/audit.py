"""Trails to be tampered with: an author of history, a key, and checkpoints when a test wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from assessmentstore.chaos.messages import command, request
from assessmentstore.models.base import JsonObject
from assessmentstore.models.checkpoints import Checkpoint
from assessmentstore.settings import Settings
from assessmentstore.store.audit import AuditReader
from assessmentstore.store.checkpoints import CheckpointStore
from assessmentstore.store.postgres import Pools, open_pools
from assessmentstore.store.signing import SigningKey, signing_key, trusted_keys

from .streams import Author, an_author


@dataclass
class Records:
    """An installation without workers, and what an auditor sees of it."""

    author: Author
    pools: Pools
    key: SigningKey
    settings: Settings

    @property
    def reader(self) -> AuditReader:
        """The auditor's eyes."""
        return AuditReader(self.pools.read)

    async def checkpoint(self) -> list[Checkpoint]:
        """Make a checkpoint of every partition that has new rows."""
        store = CheckpointStore(self.pools.write)
        made = [await store.make(claim, self.key) for claim in self.author.claims]
        return [checkpoint for checkpoint in made if checkpoint]

    async def bundle(self, assessment_id: str, *, sealed: bool = True) -> JsonObject:
        """Export an assessment's trail."""
        return await self.reader.bundle(assessment_id, self.key if sealed else None)

    async def faults(self) -> list[str]:
        """Check all that is stored."""
        return [fault async for fault in self.reader.check(trusted_keys(self.settings).verify)]

    async def live(self, *assessment_ids: str, name: str = "") -> None:
        """A whole life of some assessments: with fractions, large numbers, and text of all kinds."""
        data = request(
            metadata={
                "\U0001f600": 1e16,
                "\ufb33": -0.0,
                "n stands twice": 1,
                "n": [1.5, 1e-7, 2**53 + 1, {"ä": "\x1f\u2028"}],
            },
            options={"timeout": 1500.0, "customOptions": {"depth": {"deeper": [True, None]}}},
        )
        for key in assessment_ids:
            await self.author.apply(
                command(f"{name}{key}-1", "create", key, data, userid="alice"),
                command(f"{name}{key}-2", "start", key),
                command(f"{name}{key}-3", "progress", key, {"progress": 30, "message": "a third"}),
                command(f"{name}{key}-4", "progress", key, {"progress": 60}),
                command(f"{name}{key}-5", "fail", key, {"error": "broken"}),
            )


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[Records]:
    """An installation that has a key, without workers."""
    key = signing_key(settings)
    assert key is not None
    async with an_author(settings) as author, open_pools(settings, application="test audit") as pools:
        yield Records(author, pools, key, settings)
