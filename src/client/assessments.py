"""The calls about one assessment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import TypedDict, Unpack, cast

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.errors import ErrorCode
from ..models.machine import evolve
from ..models.retries import POLICY, RetryPolicy
from .errors import UNREACHABLE, ClientError
from .models import CreatedAssessment, Diff, History, HistoryEntry, Outcome, Status
from .queries import query_items
from .streams import EventStream, Reset
from .transport import Transport, assessment_path, parse

# Short enough for proxies, which often cut a request off after 30 or 60 seconds.
_LONGEST_WAIT = 20.0
_POLL = 0.5

# What a stream that is not to be had must not be mistaken for.
_FINAL = frozenset({ErrorCode.NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.UNAUTHENTICATED, UNREACHABLE})


class CommandOptions(TypedDict, total=False):
    """What every command may say beside its data."""

    expected_version: int | None
    """Refuse the command where the assessment has another version."""
    idempotency_key: str | None
    """The same for the same command, where the caller may send it again; else one is made up."""


class AttemptOptions(CommandOptions, total=False):
    """What commands may say besides that are about an attempt."""

    attempt: int | None
    """Refuse the command where `retryCount` is another: so a late word of an earlier attempt changes nothing."""


class AssessmentCalls:
    """Commands to one assessment, and what can be asked about it."""

    _transport: Transport

    async def create(
        self,
        request: JsonObject,
        *,
        retry_policy: RetryPolicy | None = None,
        respond_async: bool = False,
        idempotency_key: str | None = None,
    ) -> CreatedAssessment:
        """Create an assessment, and return once it is applied.

        Args:
            request: the assessment request, as the API has it.
            retry_policy: how often and when it is tried again by itself once it failed.
            respond_async: return as soon as Kafka has it; there is no version then.
            idempotency_key: the same for the same create, where the caller may make it again; else one is made up.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        if retry_policy is not None:
            request = request | {POLICY: retry_policy.to_wire()}
        headers = {"Prefer": "respond-async"} if respond_async else {}
        answer = await self._transport.write("/assessments", request, key=idempotency_key, headers=headers)
        return parse(CreatedAssessment, answer)

    async def get(
        self,
        assessment_id: str,
        *,
        min_version: int | None = None,
        at_version: int | None = None,
        at: datetime | str | None = None,
    ) -> AssessmentRecord:
        """Return the whole state of an assessment, as it is or as it was.

        Args:
            assessment_id: which one.
            min_version: the present state, of this version at least.
            at_version: what it was at this version.
            at: what it was at this time.

        Raises:
            ClientError: there is or was no such assessment, it is not visible, or the API does not answer.
        """
        query = query_items({"min_version": min_version, "at_version": at_version, "at": at})
        return parse(AssessmentRecord, await self._transport.read(assessment_path(assessment_id), query))

    async def get_unless(self, assessment_id: str, *, version: int) -> AssessmentRecord | None:
        """Return the whole state of an assessment, or nothing while it still has the version that is known.

        Raises:
            ClientError: as for `get`.
        """
        # The minimum keeps a server whose copy is behind from answering with an older state.
        query, headers = query_items({"min_version": version}), {"If-None-Match": f'"{version}"'}
        answer = await self._transport.read(assessment_path(assessment_id), query, headers)
        return None if answer.status == 304 else parse(AssessmentRecord, answer)

    async def status(self, assessment_id: str) -> Status:
        """Return how far an assessment is.

        Raises:
            ClientError: as for `get`.
        """
        return parse(Status, await self._transport.read(f"{assessment_path(assessment_id)}/status"))

    async def history(
        self, assessment_id: str, *, after_version: int = 0, limit: int | None = None
    ) -> tuple[HistoryEntry, ...]:
        """Return the audit trail after a version, oldest first.

        Raises:
            ClientError: as for `get`.
        """
        query = query_items({"after_version": after_version or None, "limit": limit})
        return parse(History, await self._transport.read(f"{assessment_path(assessment_id)}/history", query)).history

    async def diff(self, assessment_id: str, from_version: int, to_version: int | None = None) -> Diff:
        """Return what changed from one version to another, or to the present one.

        Raises:
            ClientError: as for `get`.
        """
        query = query_items({"from": from_version, "to": to_version})
        return parse(Diff, await self._transport.read(f"{assessment_path(assessment_id)}/diff", query))

    async def wait(self, assessment_id: str, *, within: float) -> Outcome:
        """Return the outcome once it is completed, failed or cancelled, however often the server restarts meanwhile.

        Raises:
            ClientError: `ASSESSMENT_TIMEOUT` after `within` seconds, or as for `get`.
        """
        end = time.monotonic() + within
        while True:
            left = min(end - time.monotonic(), _LONGEST_WAIT)
            query = query_items({"timeout": max(1, round(left * 1000))})
            try:
                return parse(Outcome, await self._transport.read(f"{assessment_path(assessment_id)}/wait", query))
            except ClientError as error:
                if error.code != ErrorCode.TIMEOUT:
                    raise
                if time.monotonic() >= end:
                    words = f"Assessment {assessment_id} has not ended within {within:g} s"
                    raise ClientError(error.status, error.code, words) from error

    async def changes(self, assessment_id: str) -> AsyncGenerator[AssessmentRecord, None]:
        """Yield the state now, and each later one, until it is completed, failed or cancelled.

        They come with the events; where those cannot be had, by asking again and again, which may pass some over.

        Raises:
            ClientError: as for `get`.
        """
        record = await self.get(assessment_id)
        yield record
        if record.is_final:
            return
        try:
            async for newer in self._followed(record):
                record = newer
                yield record
        except ClientError as error:
            if error.code in _FINAL:
                raise
        while not record.is_final:
            await asyncio.sleep(_POLL)
            if unseen := await self.get_unless(assessment_id, version=record.version):
                record = unseen
                yield record

    async def _followed(self, record: AssessmentRecord) -> AsyncGenerator[AssessmentRecord, None]:
        """The states after one, by the events that lead to them."""
        stream = EventStream(self._transport, record.assessment_id, (), str(record.version))
        async with stream:
            async for event in stream:
                if isinstance(event, Reset):
                    record = await self.get(record.assessment_id)
                elif event.version > record.version:
                    record = evolve(record, event)
                else:
                    continue
                yield record
                if record.is_final:
                    return

    async def start(self, assessment_id: str, **options: Unpack[AttemptOptions]) -> AssessmentRecord:
        """Begin to work on it; as all commands return the state that they led to.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        return await self._command(assessment_id, "start", {}, options)

    async def progress(
        self, assessment_id: str, progress: int, message: str | None = None, **options: Unpack[AttemptOptions]
    ) -> AssessmentRecord:
        """Say how far it is, 0 to 100; without a message the last one stays."""
        data = {"progress": progress} if message is None else {"progress": progress, "message": message}
        return await self._command(assessment_id, "progress", data, options)

    async def complete(
        self, assessment_id: str, result: JsonObject, **options: Unpack[AttemptOptions]
    ) -> AssessmentRecord:
        """End it with a result."""
        return await self._command(assessment_id, "complete", {"result": result}, options)

    async def fail(self, assessment_id: str, error: str, **options: Unpack[AttemptOptions]) -> AssessmentRecord:
        """End it with an error."""
        return await self._command(assessment_id, "fail", {"error": error}, options)

    async def cancel(
        self, assessment_id: str, reason: str | None = None, **options: Unpack[CommandOptions]
    ) -> AssessmentRecord:
        """End it without a result."""
        data = {} if reason is None else {"reason": reason}
        return await self._command(assessment_id, "cancel", data, cast(AttemptOptions, options))

    async def retry(self, assessment_id: str, **options: Unpack[AttemptOptions]) -> AssessmentRecord:
        """Put a failed one back to pending."""
        return await self._command(assessment_id, "retry", {}, options)

    async def _command(
        self, assessment_id: str, name: str, data: JsonObject, options: AttemptOptions
    ) -> AssessmentRecord:
        if (attempt := options.get("attempt")) is not None:
            data = data | {"attempt": attempt}
        expected, key = options.get("expected_version"), options.get("idempotency_key")
        headers = {} if expected is None else {"If-Match": f'"{expected}"'}
        path = f"{assessment_path(assessment_id)}/{name}"
        return parse(AssessmentRecord, await self._transport.write(path, data, key=key, headers=headers))
