"""What people see of lists, statistics and histories; slow to import, and so done only where it is shown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.json import JSON
from rich.table import Table
from rich.text import Text

from ..client import Assessments, Diff, FoundAssessment, FoundAssessments, HistoryEntry, Statistics
from ..models.assessment import AssessmentRecord, AssessmentState
from ..models.base import JsonObject
from ..models.metrics import AssessmentMetrics
from ..store.audit_letters import AuditLetter
from ..store.dead_letters import StoredLetter

_STYLES = {
    AssessmentState.PENDING: "yellow",
    AssessmentState.PROCESSING: "cyan",
    AssessmentState.COMPLETED: "green",
    AssessmentState.FAILED: "red",
    AssessmentState.CANCELLED: "dim",
}

_MARK = re.compile(r"<mark>(.*?)</mark>", re.DOTALL)

# Of the days that statistics have, those that fit beside the rest.
_MOST_DAYS = 10


@dataclass(frozen=True, slots=True)
class Overview:
    """What `top` shows."""

    statistics: Statistics
    metrics: AssessmentMetrics
    newest: Sequence[AssessmentRecord]
    slowest: Sequence[AssessmentRecord]
    """Those that have not ended yet, the oldest first."""

    def to_wire(self) -> JsonObject:
        """The same for programs."""
        return {
            "byState": self.statistics.by_state,
            "throughputPerMinute": self.metrics.throughput_per_minute,
            "metrics": self.metrics.to_wire(),
            "newest": [_brief(record) for record in self.newest],
            "slowest": [_brief(record) for record in self.slowest],
        }


def page_table(records: Sequence[AssessmentRecord], page: Assessments | FoundAssessments) -> RenderableType:
    """A page of a list or a search, and where the next one begins."""
    about = "" if page.total_is_exact else "at least "
    caption = f"{len(records)} of {about}{page.total}"
    if page.next_cursor:
        caption += f", more with --cursor {page.next_cursor}"
    return Group(_records(records), Text(caption, style="dim"))


def history_table(entries: Iterable[HistoryEntry]) -> RenderableType:
    """The audit trail of one assessment."""
    table = _table("version", "at", "who", "did", "from", "to", "details")
    for entry in entries:
        table.add_row(
            str(entry.new_version),
            _time(entry.created_at),
            Text(entry.user_id or ""),
            Text(entry.action),
            _state(entry.old_state),
            _state(entry.new_state),
            Text(_details(entry.details)),
        )
    return table


def diff_table(diff: Diff) -> RenderableType:
    """What changed between two versions."""
    table = _table("field", f"version {diff.from_version}", f"version {diff.to_version}")
    for change in diff.changes:
        sides = (("before", change.before), ("after", change.after))
        cells = [
            _value(value) if side in change.model_fields_set else Text("(none)", style="dim") for side, value in sides
        ]
        table.add_row(Text(change.field), *cells)
    return table


def dead_letters_table(letters: Sequence[StoredLetter], *, more: bool) -> RenderableType:
    """A page of dead letters, and where the next one begins."""
    table = _table("letter", "id", "at", "key", "bytes", "state", "reason")
    for stored in letters:
        letter = stored.letter
        table.add_row(
            letter.place,
            str(stored.id),
            _time(stored.created_at),
            Text("" if letter.key is None else letter.key.decode("utf-8", "backslashreplace")[:40]),
            "" if stored.size is None else str(stored.size),
            str(stored.state),
            Text(stored.reason),
        )
    caption = f"{len(letters)} dead letters" + (f", more with --after {letters[-1].id}" if more else "")
    return Group(table, Text(caption, style="dim"))


def audit_letters_table(letters: Sequence[AuditLetter], *, more: bool) -> RenderableType:
    """A page of records that the audit service refused."""
    table = _table("id", "event", "at", "reason")
    for letter in letters:
        table.add_row(str(letter.id), Text(letter.event_id), _time(letter.created_at), Text(letter.reason))
    caption = f"{len(letters)} refused records" + (f", more with --after {letters[-1].id}" if more else "")
    return Group(table, Text(caption, style="dim"))


def statistics_tables(statistics: Statistics) -> RenderableType:
    """Counts, rates and times side by side."""
    states = _table("state", "count", "average time", title=f"{statistics.total} assessments")
    for state, count in statistics.by_state.items():
        milliseconds = statistics.average_processing_time_by_state.get(state)
        states.add_row(state, str(count), "" if milliseconds is None else _duration(milliseconds / 1000))
    kinds = _table("type", "count", "completed", title=f"{statistics.success_rate:.1%} completed")
    for kind, count in statistics.by_type.items():
        rate = statistics.success_rate_by_type.get(kind)
        kinds.add_row(kind, str(count), "" if rate is None else f"{rate:.1%}")
    days = _table("day", "created", "completed", "failed", title="lately")
    for day in statistics.daily_counts[-_MOST_DAYS:]:
        days.add_row(str(day.date), str(day.count), str(day.completed), str(day.failed))
    servers = _table("server", "count", "last", title="most checked")
    for server in statistics.top_servers:
        servers.add_row(Text(server.server_name), str(server.assessment_count), _time(server.last_assessment))
    priorities = _table("priority", "count", title="by priority")
    for priority, count in statistics.by_priority.items():
        priorities.add_row(priority, str(count))
    return Columns([states, kinds, priorities, days, servers])


def overview_view(overview: Overview, now: datetime) -> RenderableType:
    """The live view."""
    counts = Text("   ").join(
        Text(f"{count} {state}", style=_STYLES[AssessmentState(state)])
        for state, count in overview.statistics.by_state.items()
    )
    metrics = overview.metrics
    pace = Text(
        f"{metrics.throughput_per_minute} ended in the last minute, {metrics.success_rate:.1f} % completed,"
        f" {_duration(metrics.average_processing_time / 1000)} on average"
    )
    slow = _table("id", "state", "for", "progress", "message", title="not ended for longest")
    for record in overview.slowest:
        age = _duration((now - record.created_at).total_seconds())
        slow.add_row(
            Text(record.assessment_id), _state(record.state), age, f"{record.progress} %", Text(record.message or "")
        )
    return Group(counts, pace, Text(), slow, Text(), _records(overview.newest, title="changed last"))


def _records(records: Iterable[AssessmentRecord], title: str | None = None) -> Table:
    table = _table("id", "state", "v", "progress", "type", "server", "updated", "message", title=title)
    for record in records:
        request = record.request_data
        table.add_row(
            Text(record.assessment_id),
            _state(record.state),
            str(record.version),
            f"{record.progress} %",
            Text(str(request.get("assessmentType", ""))),
            Text(str(request.get("serverName", ""))),
            _time(record.updated_at),
            _message(record),
        )
    return table


def _message(record: AssessmentRecord) -> Text:
    """Where a search found its words, else the error or the last message."""
    if isinstance(record, FoundAssessment) and record.highlights:
        return Text("  ").join(_marked(field, piece) for field, piece in record.highlights.items())
    return Text(record.error_message or record.message or "")


def _marked(field: str, piece: str) -> Text:
    text = Text(f"{field}: ", style="dim")
    for number, part in enumerate(_MARK.split(piece)):
        text.append(html.unescape(part), style="bold not dim" if number % 2 else "not dim")
    return text


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _state(state: AssessmentState | None) -> Text:
    return Text("") if state is None else Text(str(state), style=_STYLES[state])


def _value(value: object) -> RenderableType:
    return Text(value) if isinstance(value, str) else JSON.from_data(value)


def _time(value: datetime | None) -> str:
    return "" if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} d"


def _details(details: JsonObject | None) -> str:
    """What is worth a column: short values, by their names."""
    texts = [f"{name}: {value}" for name, value in (details or {}).items() if isinstance(value, str | int | float)]
    return ", ".join(texts)[:80]


def _brief(record: AssessmentRecord) -> JsonObject:
    members = {"assessment_id", "state", "version", "progress", "message", "created_at", "updated_at"}
    return record.model_dump(mode="json", by_alias=True, include=members)
