"""The Python client: `AsyncClient`, the same as `Client` for code without an event loop, and events over Kafka.

with Client("http://127.0.0.1:3000", token) as client:
    created = client.create({"assessmentType": "health", "options": {}})
    print(client.wait(created.assessment_id, within=60).status)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models.retries import RetryPolicy
from .assessments import AttemptOptions, CommandOptions
from .asynchronous import AsyncClient
from .errors import ClientError, DeliveryError
from .models import (
    Assessments,
    BatchAnswer,
    BatchError,
    Change,
    Cleaned,
    CreatedAssessment,
    DailyCount,
    Diff,
    FoundAssessment,
    FoundAssessments,
    Health,
    HistoryEntry,
    ItemResult,
    MigrationStatus,
    Outcome,
    ProgressBatchAnswer,
    RetryBatchAnswer,
    ServerCount,
    ServiceHealth,
    Statistics,
    Status,
)
from .queries import Filters, ListOptions
from .streams import EventStream, Reset
from .subscriptions import Subscription
from .synchronous import Client, SyncEventStream
from .transport import ClientOptions, Token

if TYPE_CHECKING:
    from .kafka import KafkaSubscriber

__all__ = [
    "Assessments",
    "AsyncClient",
    "AttemptOptions",
    "BatchAnswer",
    "BatchError",
    "Change",
    "Cleaned",
    "Client",
    "ClientError",
    "ClientOptions",
    "CommandOptions",
    "CreatedAssessment",
    "DailyCount",
    "DeliveryError",
    "Diff",
    "EventStream",
    "Filters",
    "FoundAssessment",
    "FoundAssessments",
    "Health",
    "HistoryEntry",
    "ItemResult",
    "KafkaSubscriber",
    "ListOptions",
    "MigrationStatus",
    "Outcome",
    "ProgressBatchAnswer",
    "Reset",
    "RetryBatchAnswer",
    "RetryPolicy",
    "ServerCount",
    "ServiceHealth",
    "Statistics",
    "Status",
    "Subscription",
    "SyncEventStream",
    "Token",
]


def __getattr__(name: str) -> Any:
    """Import what needs Kafka's client where it is asked for: the others start faster without."""
    if name == "KafkaSubscriber":
        from .kafka import KafkaSubscriber  # noqa: PLC0415 - as the docstring says

        return KafkaSubscriber
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
