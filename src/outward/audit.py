"""The audit service hears of every event: at least once under one id, those of an assessment in order.

While the service is away, busy, or refuses everybody, the same records are sent again, and nothing further is taken
from Kafka. What it refuses for what is in it goes to the dead letters, and the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp
import structlog

from ..models.errors import UnavailableError
from ..settings import Settings, SettingsError
from ..telemetry import AUDIT_RECORDS
from .audit_log import AuditRecord, audit_record
from .consumer import EventRecord, EventsConsumer
from .http import Answer, jittered, post

log = structlog.get_logger(__name__)

_ANSWER_SECONDS = 15.0

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_DOUBLINGS = 8

# Requests at once, over all partitions: those of one assessment follow each other.
_AT_ONCE = 16

# A record that fails so often, and for so long, while others are taken in between, is a dead letter: what fails by
# chance, or because the service is away, does not come so far.
_ALONE = 20
_ALONE_SECONDS = 300.0

REFUSED = frozenset({400, 413, 415, 422})
"""What is wrong with one record. Any other failure is the service's, or a wrong setting: the same may succeed later."""

_HAS_IT = 409
"""The service has a record with this id."""


class DeadLetters(Protocol):
    """Where records go that the service refuses."""

    async def put(self, event_id: str, record: bytes, reason: str) -> None:
        """Keep a record; twice is once.

        Raises:
            UnavailableError: try again.
        """


class AuditService:
    """The service, for sending."""

    def __init__(self, session: aiohttp.ClientSession, url: str, api_key: str | None) -> None:
        self._session = session
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    async def send(self, record: AuditRecord) -> Answer:
        """Send one record, once."""
        return await post(self._session, self._url, record.body, self._headers, seconds=_ANSWER_SECONDS)

    @staticmethod
    def has(answer: Answer) -> bool:
        """Whether the service has the record by now."""
        return answer.is_good or answer.status == _HAS_IT


@asynccontextmanager
async def open_audit_service(settings: Settings) -> AsyncIterator[AuditService]:
    """The service that the settings name.

    Raises:
        SettingsError: they name none.
    """
    if settings.audit_url is None:
        raise SettingsError("ASSESSMENTSTORE_AUDIT_URL: it is not set; the audit service is nowhere")
    key = settings.audit_api_key
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE), auto_decompress=False) as session:
        yield AuditService(session, settings.audit_url, key.get_secret_value() if key else None)


class _Trouble:
    """How often one record failed although the service took others."""

    def __init__(self, taken: int) -> None:
        self._began = _clock()
        self._taken = taken
        self._alone = 0

    def is_its_own(self, taken: int) -> bool:
        """Note one more failure, after so many records were taken; whether it must be the record's own."""
        self._alone += taken > self._taken
        self._taken = taken
        return self._alone >= _ALONE and _clock() - self._began >= _ALONE_SECONDS


class AuditForwarder:
    """Sends chunks of events, as often as it takes.

    One that fails again and again while the service takes others in between is wrong itself, whatever the answer says:
    after a while it is put aside, or it would hold up all that stands behind it for ever.
    """

    def __init__(self, service: AuditService, letters: DeadLetters) -> None:
        self._service = service
        self._letters = letters
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._failures = 0
        self._taken = 0
        self._closed_until = 0.0
        self._told = ""

    async def forward(self, records: Sequence[EventRecord]) -> None:
        """Return when the service, or the dead letters, have all of a chunk."""
        lines: dict[str, list[AuditRecord]] = {}
        for record in records:
            made = _made(record)
            lines.setdefault(made.assessment_id, []).append(made)
        async with asyncio.TaskGroup() as group:
            for line in lines.values():
                group.create_task(self._send_all(line))

    async def _send_all(self, line: Sequence[AuditRecord]) -> None:
        """The records of one assessment, one after the other, each until it is done."""
        for record in line:
            trouble = _Trouble(self._taken)
            while not await self._is_done(record, trouble):
                pass

    async def _is_done(self, record: AuditRecord, trouble: _Trouble) -> bool:
        """Send one record, once the service may be asked again; whether it need not be sent any more."""
        async with self._turns:
            await asyncio.sleep(self._closed_until - _clock())
            answer = Answer(None, record.fault) if record.fault else await self._service.send(record)
        if self._service.has(answer):
            self._failures, self._told = 0, ""
            self._taken += 1
            AUDIT_RECORDS.labels("delivered").inc()
            return True
        if record.fault or answer.status in REFUSED or trouble.is_its_own(self._taken):
            return await self._is_put_aside(record, answer.words)
        AUDIT_RECORDS.labels("failed").inc()
        self._close(answer)
        return False

    async def _is_put_aside(self, record: AuditRecord, why: str) -> bool:
        try:
            await self._letters.put(record.id, record.body, why)
        except UnavailableError as error:
            self._close(Answer(None, str(error)))
            return False
        AUDIT_RECORDS.labels("refused").inc()
        log.warning("a record for the audit service is a dead letter", id=record.id, why=why)
        return True

    def _close(self, answer: Answer) -> None:
        """Leave the service alone for a while; those that fail at the same time are one failure."""
        if _clock() < self._closed_until:
            return
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _LONGEST_PAUSE_SECONDS)
        self._failures = min(self._failures + 1, _MOST_DOUBLINGS)
        self._closed_until = _clock() + max(jittered(pause), answer.retry_after)
        self._tell(answer.words)

    def _tell(self, why: str) -> None:
        """Tell the operator of changes, not of every try."""
        if why != self._told:
            log.warning("the audit service does not take records: they are sent again", why=why)
        self._told = why


@asynccontextmanager
async def forwarding(settings: Settings, letters: DeadLetters) -> AsyncIterator[None]:
    """Forward events meanwhile."""
    async with open_audit_service(settings) as service:
        forwarder = AuditForwarder(service, letters)
        async with EventsConsumer(settings, settings.audit_group, forwarder.forward).running():
            yield


def _made(record: EventRecord) -> AuditRecord:
    """The record of an event; only the store writes events, so that one which is none is for people to look at."""
    try:
        return audit_record(record.value or b"")
    except ValueError as error:
        place = f"{record.partition}@{record.offset}"
        return AuditRecord(place, place, record.value or b"", fault=str(error))


def _clock() -> float:
    return asyncio.get_running_loop().time()
