"""Event streams: an author of history, a web in this process, and readers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
from aiohttp import ClientPayloadError, ClientResponse, ClientSession
from aiohttp.test_utils import TestServer

from assessmentstore.agents.fold import decode, fold
from assessmentstore.chaos.messages import Message
from assessmentstore.models.errors import UnavailableError
from assessmentstore.settings import Settings
from assessmentstore.store.batch import BatchStore, PartitionClaim
from assessmentstore.store.cache import SharedCache, changes_message
from assessmentstore.store.postgres import open_pools
from assessmentstore.store.redis import open_redis
from assessmentstore.store.trail import TrailReader
from assessmentstore.web.app import build_app
from assessmentstore.web.auth import Role, mint_token
from assessmentstore.web.streams import TRAIL

from .waiting import DEADLINE


@dataclass
class _Record:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    timestamp: int = 0


class Author:
    """Applies commands to Postgres and tells Redis, as the lanes of a worker do, without Kafka."""

    def __init__(self, settings: Settings, store: BatchStore, cache: SharedCache) -> None:
        self._topic = settings.commands_topic
        self._partitions = settings.topic_partitions
        self._store = store
        self._cache = cache
        self._claims: dict[int, PartitionClaim] = {}

    async def claim(self) -> None:
        """Take all partitions."""
        for number in range(self._partitions):
            self._claims[number] = await self._store.claim(self._topic, number, owner="author", epoch=None)

    @property
    def claims(self) -> Sequence[PartitionClaim]:
        """What it has of each partition."""
        return list(self._claims.values())

    def partition(self, key: str) -> int:
        """Where the commands of an assessment stand."""
        return zlib.crc32(key.encode()) % self._partitions

    async def apply(self, *messages: Message) -> None:
        """Apply commands, those of each partition in one transaction."""
        lanes: dict[int, list[Message]] = {}
        for message in messages:
            lanes.setdefault(self.partition((message.key or b"").decode()), []).append(message)
        await asyncio.gather(*(self._apply(*lane) for lane in lanes.items()))

    async def _apply(self, partition: int, messages: list[Message]) -> None:
        claim = self._claims[partition]
        end = claim.next_offset + len(messages)
        batch = [
            decode(_Record(offset, message.key, message.value, list(message.headers)))
            for offset, message in enumerate(messages, claim.next_offset)
        ]
        headers = [item.header for item in batch if item.header]
        async with self._store.transaction({claim: end}) as transaction:
            known = await transaction.known([header.id for header in headers])
            states = await transaction.load({header.assessment_id for header in headers})
            changes = fold(batch, states, known, transaction.now).changes
            await transaction.write({partition: changes})
        self._claims[partition] = replace(claim, next_offset=end)
        try:
            await self._cache.reflect(
                partition,
                start=claim.next_offset,
                end=end,
                states={key: (state.version, state.to_json()) for key, state in changes.after.items()},
                messages=[changes_message(changes.after.values())],
            )
        except UnavailableError:
            return  # a worker goes on without Redis, too


@asynccontextmanager
async def an_author(settings: Settings) -> AsyncIterator[Author]:
    """An author that has all partitions."""
    async with open_pools(settings, application="test author") as pools, open_redis(settings) as redis:
        author = Author(settings, BatchStore(pools.write), SharedCache(redis, settings.topic_prefix))
        await author.claim()
        yield author


class Block(NamedTuple):
    """What stands between two empty lines."""

    id: str | None
    event: str | None
    data: Any
    comment: str | None

    @property
    def place(self) -> tuple[str, int]:
        """Which event of which assessment it is."""
        return self.data["assessmentId"], self.data["version"]


class Reader:
    """One open stream."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.last_id: str | None = None
        """What a browser would send when it comes back."""

    async def block(self) -> Block | None:
        """The next block; nothing at the end."""
        fields: dict[str, str] = {}
        try:
            while line := (await self.answer.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                fields[name or "comment"] = value.removeprefix(" ")
        except (ClientPayloadError, ConnectionError):
            return None
        if not fields:
            return None
        self.last_id = fields.get("id", self.last_id)
        data = orjson.loads(fields["data"]) if "data" in fields else None
        return Block(fields.get("id"), fields.get("event"), data, fields.get("comment"))

    async def event(self) -> Block | None:
        """The next event, a reset among them; nothing at the end."""
        async with asyncio.timeout(DEADLINE):
            while (block := await self.block()) is not None and block.event is None:
                pass
        return block

    async def events(self, count: int) -> list[Block]:
        """The next so many events."""
        found = [await self.event() for _ in range(count)]
        assert all(found), f"the stream ended: {found}"
        return [block for block in found if block]

    async def rest(self) -> list[Block]:
        """All events until the end."""
        found = []
        while (block := await self.event()) is not None:
            found.append(block)
        return found


class Streams:
    """A web, and requests to it."""

    def __init__(self, server: TestServer, secret: str, session: ClientSession) -> None:
        self.server = server
        self.url = str(server.make_url("")).rstrip("/")
        self._secret = secret
        self._session = session

    @property
    def trail(self) -> TrailReader:
        """What its streams read history with."""
        return self.server.app[TRAIL]

    def token(self, user: str, role: Role, lifetime: timedelta = timedelta(hours=1)) -> str:
        """A token of this installation."""
        return mint_token(self._secret, user, [role], lifetime)

    @asynccontextmanager
    async def read(
        self,
        path: str = "/events",
        last_id: str | None = None,
        *,
        user: str = "ann",
        role: Role = Role.ADMIN,
        lifetime: timedelta = timedelta(hours=1),
    ) -> AsyncIterator[Reader]:
        """A stream, or whatever the answer is; it is left with the block."""
        headers = {"Authorization": f"Bearer {self.token(user, role, lifetime)}"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        async with self._session.get(self.url + path, headers=headers) as answer:
            try:
                yield Reader(answer)
            finally:
                answer.close()


@asynccontextmanager
async def serving_streams(settings: Settings, *, patience: float = 2) -> AsyncIterator[Streams]:
    """A web in this process, so that a test can change its constants.

    Args:
        settings: of the web.
        patience: seconds that its stop leaves requests which do not end by themselves.
    """
    assert settings.jwt_secret is not None
    server = TestServer(build_app(settings))
    await server.start_server(shutdown_timeout=patience)
    try:
        async with ClientSession() as session:
            yield Streams(server, settings.jwt_secret.get_secret_value(), session)
    finally:
        await server.close()
