"""Logs and metrics: structured lines that carry the ids at hand, and every Prometheus metric in one place."""

from __future__ import annotations

import collections
import logging
import sys
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import psutil
import structlog
from prometheus_client import Counter, Gauge, Histogram

from .settings import Settings


class BatchHistogram(Histogram):
    """A histogram that takes what a batch comes to at once; amount by amount is most of the time of counting it."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe several amounts."""
        self._sum.inc(sum(amounts))
        buckets = collections.Counter(bisect_left(self._upper_bounds, amount) for amount in amounts)
        for bucket, count in buckets.items():
            self._buckets[bucket].inc(count)


# The names of the reference; prometheus_client adds `_total` to counters as the format asks.
TOTAL_ASSESSMENTS = Counter("assessmentstore_total_assessments", "Assessments created")
ACTIVE_ASSESSMENTS = Gauge(
    "assessmentstore_active_assessments", "Assessments pending or processing, as Postgres has it"
)
AVERAGE_PROCESSING_TIME = Gauge(
    "assessmentstore_average_processing_seconds", "From start to end, over all assessments that have ended"
)
THROUGHPUT = Gauge("assessmentstore_throughput_per_minute", "Assessments that ended within the last minute")
COMPLETED_ASSESSMENTS = Counter("assessmentstore_completed_assessments", "Assessments completed")
FAILED_ASSESSMENTS = Counter("assessmentstore_failed_assessments", "Assessments failed")
CANCELLED_ASSESSMENTS = Counter("assessmentstore_cancelled_assessments", "Assessments cancelled")
PROCESSING_TIME = BatchHistogram(
    "assessmentstore_processing_time_seconds",
    "From the start of an assessment to its end",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60),
)
QUEUE_WAIT_TIME = BatchHistogram(
    "assessmentstore_queue_wait_time_seconds",
    "From a command's arrival on the topic to its commit",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
MEMORY_USAGE = Gauge("assessmentstore_memory_usage_bytes", "Resident memory of this process")
CPU_USAGE = Gauge("assessmentstore_cpu_usage_percent", "CPU use of this process since the last scrape")
ERRORS = Counter("assessmentstore_errors_total", "Errors by type", ["error_type"])

# What an operator needs besides.
SCRUBBED = Counter("assessmentstore_scrubbed_assessments", "Assessments whose copies were compared by the way")
CORRUPTIONS = Gauge(
    "assessmentstore_corruptions", "Assessments that a store does not have as it should, as far as is known", ["store"]
)
COMMANDS = Counter("assessmentstore_commands", "Commands judged, by type and outcome", ["type", "outcome"])
DUPLICATES = Counter("assessmentstore_duplicate_commands", "Commands whose id was seen before")
DEAD_LETTERS = Counter("assessmentstore_dead_letters", "Records that were not commands")
OPEN_DEAD_LETTERS = Gauge(
    "assessmentstore_open_dead_letters", "Dead letters that are neither redriven nor dropped, as Postgres has it"
)
BATCH_SIZE = Histogram(
    "assessmentstore_batch_size",
    "Commands committed in one transaction",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
)
BATCH_STEP_TIME = Histogram(
    "assessmentstore_batch_step_seconds",
    "Time of each step of a batch",
    ["step"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
DISCARDED_TABLES = Counter(
    "assessmentstore_discarded_tables", "RocksDB tables thrown away because they could not be read or written"
)
PARTITION_LAG = Gauge("assessmentstore_partition_lag", "Commands on the topic that are not applied yet", ["partition"])
OWNED_PARTITIONS = Gauge("assessmentstore_owned_partitions", "Partitions that this worker has claimed")
FENCE_LOSSES = Counter("assessmentstore_fence_losses", "Batches refused because another worker owns the partition")
VERSION_CONFLICTS = Counter(
    "assessmentstore_version_conflicts", "Batches decided again because Postgres had another version"
)
RESUMED = Counter("assessmentstore_resumed_offsets", "Offsets whose events a takeover published from the audit trail")
RETRIES = Counter("assessmentstore_batch_retries", "Batches tried again, by the service that was away", ["service"])
TIMERS_FIRED = Counter("assessmentstore_timers_fired", "Commands that timers sent, by timer: lease, retry", ["timer"])
TIMERS_LATE = Gauge(
    "assessmentstore_timers_late_seconds", "How late the timer is that is due longest, as Postgres has it"
)
PENDING_TOO_LONG = Gauge(
    "assessmentstore_pending_too_long", "Assessments that nobody takes up, counted to 10,000, as Postgres has it"
)
CACHE_READS = Counter("assessmentstore_cache_reads", "Reads by cache layer and outcome", ["layer", "outcome"])
READS = Counter("assessmentstore_reads", "Reads by who answered: memory, redis, replica, primary", ["source"])
READ_FALLBACKS = Counter(
    "assessmentstore_read_fallbacks", "Reads that went on from a replica, by why: behind, miss, failed", ["reason"]
)
REPLICA_LAG = Gauge(
    "assessmentstore_replica_lag_seconds", "How old a replica's state may be, by its place in the setting", ["replica"]
)
LEGACY_EVENTS = Counter("assessmentstore_legacy_events", "Events of the old system, by what they came to", ["outcome"])
LEGACY_LAG = Gauge(
    "assessmentstore_legacy_lag", "Events of the old system on their topic that this bridge has not taken in yet"
)
MIGRATION_PERCENTAGE = Gauge(
    "assessmentstore_migration_percentage",
    "Share of the ids that the store serves, 0 in legacy mode, as Postgres has it",
)
OPEN_DIVERGENCES = Gauge(
    "assessmentstore_open_divergences", "Differences from the old system that are not resolved, as Postgres has it"
)
POOL_CONNECTIONS = Gauge("assessmentstore_pool_connections", "Postgres connections by pool and use", ["pool", "use"])
HTTP_REQUESTS = Counter("assessmentstore_http_requests", "HTTP requests by route and status", ["route", "status"])
HTTP_TIME = Histogram("assessmentstore_http_request_seconds", "Time to answer an HTTP request", ["route"])
REFUSALS = Counter("assessmentstore_refusals", "Requests refused at the door, by code", ["code"])
REFUSALS_LOST = Counter("assessmentstore_lost_refusals", "Refusals that did not get into the audit")
WAITERS = Gauge("assessmentstore_waiters", "Requests that wait for an assessment or for a command's outcome")
STREAMS = Gauge("assessmentstore_event_streams", "Open event streams")
STREAM_EVENTS = Counter("assessmentstore_stream_events", "Events sent on event streams")
PENDING_ASSESSMENTS = Gauge(
    "assessmentstore_pending_assessments", "Assessments that wait to be taken on by an executor, as Postgres has it"
)
COMPLIANCE_ATTEMPTS = Gauge(
    "assessmentstore_compliance_attempts", "Attempts that a compliance server works on for this worker", ["server"]
)
COMPLIANCE_BREAKER = Gauge(
    "assessmentstore_compliance_breaker_open", "1 while a compliance server is left alone after failures", ["server"]
)
COMPLIANCE_CALL_TIME = Histogram(
    "assessmentstore_compliance_call_seconds",
    "Time of a call to a compliance server, by how it went",
    ["server", "outcome"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
)
STREAMS_CUT = Counter("assessmentstore_event_streams_cut", "Streams cut off because their reader was slow", ["reason"])

AUDIT_LAG = Gauge("assessmentstore_audit_lag", "Events that the audit service does not have yet", ["partition"])
AUDIT_RECORDS = Counter(
    "assessmentstore_audit_records",
    "Records sent to the audit service, by what became of it: delivered, failed (sent again), refused (a dead letter)",
    ["outcome"],
)
OPEN_AUDIT_LETTERS = Gauge(
    "assessmentstore_open_audit_letters",
    "Records that the audit service refused and nobody has seen to",
)
WEBHOOK_ATTEMPTS = Counter(
    "assessmentstore_webhook_attempts",
    "Notifications sent, by what became of it: delivered, failed (sent again), given_up",
    ["outcome"],
)
WEBHOOKS_DISABLED = Counter(
    "assessmentstore_webhooks_disabled", "Webhooks that were switched off for failing", ["reason"]
)
WEBHOOK_QUEUE = Gauge("assessmentstore_webhook_queue", "Notifications that are still to be sent, as Postgres has it")
WEBHOOK_DELAY = Gauge(
    "assessmentstore_webhook_delay_seconds", "How long the oldest of them waits for webhooks that do not fail"
)

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}

# Libraries that tell the operator what he did not ask: each heartbeat, each request; and, while a broker is away, every
# attempt to reach it, hundreds a minute, where one line of ours says it.
_QUIETED = {"aiokafka": logging.CRITICAL, "faust": logging.WARNING, "mode": logging.WARNING, "asyncio": logging.WARNING}


def watch_process() -> None:
    """Let the gauges of memory and CPU read this process whenever they are scraped."""
    process = psutil.Process()
    process.cpu_percent()
    MEMORY_USAGE.set_function(lambda: process.memory_info().rss)
    CPU_USAGE.set_function(process.cpu_percent)


def configure_logging(settings: Settings) -> None:
    """Send every log line, the libraries' own too, to standard error as JSON or for a console."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # Not the rich ones: they print local variables, and some of those are secrets.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    level = _LEVELS[settings.log_level]
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, quieted in _QUIETED.items():
        logging.getLogger(name).setLevel(level if level == logging.DEBUG else quieted)
