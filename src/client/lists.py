"""The calls about many assessments, and about the store itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Unpack
from uuid import uuid4

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.metrics import AssessmentMetrics
from .errors import ClientError
from .models import (
    Assessments,
    BatchAnswer,
    Cleaned,
    FoundAssessment,
    FoundAssessments,
    Health,
    ProgressBatchAnswer,
    RetryBatchAnswer,
    Statistics,
)
from .queries import Filters, ListOptions, query_items
from .transport import Transport, parse

# Few requests, and none that is long to answer.
_PAGE = 500


class CollectionCalls:
    """Lists, search, statistics, batches, maintenance."""

    _transport: Transport

    async def list(
        self,
        *,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        **options: Unpack[ListOptions],
    ) -> Assessments:
        """Return one page of the assessments that filters let through.

        Raises:
            ClientError: a filter is wrong, or the API does not answer.
        """
        query = query_items({"limit": limit, "offset": offset, "cursor": cursor, **options})
        return parse(Assessments, await self._transport.read("/assessments", query))

    async def iterate(
        self, *, page_size: int = _PAGE, **options: Unpack[ListOptions]
    ) -> AsyncGenerator[AssessmentRecord, None]:
        """Yield all assessments that filters let through, page by page.

        Raises:
            ClientError: as for `list`.
        """
        cursor: str | None = None
        while True:
            page = await self.list(limit=page_size, cursor=cursor, **options)
            for record in page.assessments:
                yield record
            if (cursor := page.next_cursor) is None:
                return

    async def search(
        self, words: str, *, limit: int | None = None, offset: int | None = None, cursor: str | None = None
    ) -> FoundAssessments:
        """Return one page of the assessments that have all of these words, the best first.

        Raises:
            ClientError: there are no words, or the API does not answer.
        """
        query = query_items({"q": words, "limit": limit, "offset": offset, "cursor": cursor})
        return parse(FoundAssessments, await self._transport.read("/assessments/search", query))

    async def search_all(self, words: str, *, page_size: int = _PAGE) -> AsyncGenerator[FoundAssessment, None]:
        """Yield all that a search finds, page by page.

        Raises:
            ClientError: as for `search`.
        """
        cursor: str | None = None
        while True:
            page = await self.search(words, limit=page_size, cursor=cursor)
            for record in page.assessments:
                yield record
            if (cursor := page.next_cursor) is None:
                return

    async def statistics(self, *, timezone: str | None = None, **filters: Unpack[Filters]) -> Statistics:
        """Return counts, rates and times of the assessments that filters let through.

        Args:
            timezone: whose days are counted, like Europe/Berlin; else UTC.
            filters: which assessments.

        Raises:
            ClientError: as for `list`.
        """
        query = query_items({"timezone": timezone, **filters})
        return parse(Statistics, await self._transport.read("/assessments/stats", query))

    async def create_batch(self, requests: Iterable[JsonObject], *, idempotency_key: str | None = None) -> BatchAnswer:
        """Create many assessments; what is refused is told by its place, and does not stop the others.

        Raises:
            ClientError: the list is empty or too long, or the API does not answer.
        """
        return parse(BatchAnswer, await self._transport.write("/assessments/batch", [*requests], key=idempotency_key))

    async def progress_batch(
        self, updates: Iterable[JsonObject], *, idempotency_key: str | None = None
    ) -> ProgressBatchAnswer:
        """Say of many assessments how far they are: `{"assessmentId", "progress", "message", "attempt"}` of each.

        Raises:
            ClientError: as for `create_batch`.
        """
        answer = await self._transport.write("/assessments/batch/progress", [*updates], key=idempotency_key)
        return parse(ProgressBatchAnswer, answer)

    async def retry_batch(self, max_retries: int, *, idempotency_key: str | None = None) -> RetryBatchAnswer:
        """Put the failed assessments back to pending that were retried less often than this.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        answer = await self._transport.write(
            "/assessments/batch/retry", {"maxRetries": max_retries}, key=idempotency_key
        )
        return parse(RetryBatchAnswer, answer)

    async def cleanup(self, retention_days: int) -> Cleaned:
        """Delete what ended so many days ago, for as long as that takes.

        Raises:
            ClientError: it was refused, or the API does not answer.
        """
        data, key, deleted = {"retentionDays": retention_days}, uuid4().hex, -1
        while True:
            try:
                return parse(Cleaned, await self._transport.write("/maintenance/cleanup", data, key=key))
            except ClientError as error:
                # One request deletes for some seconds and then says how far it came; a repeat goes on.
                if error.details.get("deleted", -1) <= deleted:
                    raise
                deleted = error.details["deleted"]

    async def metrics(self) -> AssessmentMetrics:
        """Return the figures of the whole store: totals, rates, throughput.

        Raises:
            ClientError: the API does not answer.
        """
        answer = await self._transport.read("/metrics", headers={"Accept": "application/json"})
        return parse(AssessmentMetrics, answer)

    async def health(self) -> Health:
        """Return how the API is, and the services that it rests on.

        Raises:
            ClientError: the API does not answer.
        """
        return parse(Health, await self._transport.read("/health"))
