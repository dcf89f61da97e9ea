"""What inspections amount to: issues, scores and recommendations, in the types of the contract; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from statistics import mean

from ..models.base import JsonObject
from ..models.result import (
    AssessmentResult,
    AssessmentSeverity,
    AssessmentSummary,
    ConfigurationIssue,
    IssueType,
    ServerStatus,
    ServerStatusInfo,
)
from .inspection import Inspection

_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW

_PENALTY = {_CRITICAL: 50, _HIGH: 25, _MEDIUM: 10, _LOW: 3}
_PRIORITY = {_CRITICAL: 1, _HIGH: 2, _MEDIUM: 3, _LOW: 4}
_ISSUE_TYPES = {
    "availability": IssueType.INVALID_CONFIG,
    "authentication": IssueType.SECURITY_ISSUE,
    "encryption": IssueType.SECURITY_ISSUE,
    "version": IssueType.INVALID_CONFIG,
}

# Postgres 13 was the last to lose support, and access control lists came with Redis 6.
_OLDEST_VERSION: Mapping[str, int] = {"postgres": 14, "redis": 6}
# Milliseconds.
_SLOW = 100.0
_VERY_SLOW = 1000.0
# Shares of what there is.
_LITTLE = 0.1
_VERY_LITTLE = 0.03


def failure(inspections: Sequence[Inspection]) -> str | None:
    """Return why an assessment fails: not one of its servers responds."""
    errors = [f"{item.target.name} at {item.target.address}: {item.error}" for item in inspections if item.error]
    return "; ".join(errors) if len(errors) == len(inspections) else None


def result(inspections: Sequence[Inspection], now: datetime) -> AssessmentResult:
    """Judge what was measured."""
    found = [list(issues(item)) for item in inspections]
    compliant = sum(all(issue.severity == _LOW for issue in of_server) for of_server in found)
    severities = Counter(issue.severity for of_server in found for issue in of_server)
    return AssessmentResult(
        timestamp=now,
        total_servers=len(inspections),
        compliant_servers=compliant,
        non_compliant_servers=len(inspections) - compliant,
        missing_servers=[item.target.name for item in inspections if item.error],
        configuration_issues=[issue for of_server in found for issue in of_server],
        server_statuses=[_status(item, now) for item in inspections],
        overall_score=round(mean(map(_score, found)), 1),
        summary=AssessmentSummary(
            critical_issues=severities[_CRITICAL],
            high_issues=severities[_HIGH],
            medium_issues=severities[_MEDIUM],
            low_issues=severities[_LOW],
        ),
    )


def issues(item: Inspection) -> Iterator[ConfigurationIssue]:
    """Name what is wrong with one server, and what to do about it."""
    if item.error is not None:
        yield _issue(item, "availability", _CRITICAL, item.error, "Start the server, or correct its address.")
        return
    yield from _security(item)
    yield from _version(item)
    yield from _resources(item)


def _security(item: Inspection) -> Iterator[ConfigurationIssue]:
    who = "every user of the machine" if item.target.is_local else "everybody on the network"
    if item.authentication is False:
        severity = _MEDIUM if item.target.is_local else _CRITICAL
        words = f"It takes anybody without asking who it is: {who} can read and change the data."
        yield _issue(item, "authentication", severity, words, "Create users, and ask for their passwords.")
    if item.tls is False:
        severity = _LOW if item.target.is_local else _HIGH
        words = f"The connection is not encrypted, over which {who} may listen."
        yield _issue(item, "encryption", severity, words, "Give the server a certificate, and turn TLS on.")


def _version(item: Inspection) -> Iterator[ConfigurationIssue]:
    oldest = _OLDEST_VERSION.get(item.target.kind)
    if item.version is not None and oldest is not None and int(item.version.split(".")[0]) < oldest:
        words = f"Version {item.version} is out of support."
        yield _issue(item, "version", _HIGH, words, f"Upgrade to version {oldest} or newer.")


def _resources(item: Inspection) -> Iterator[ConfigurationIssue]:
    if item.response_time is not None and item.response_time > _SLOW:
        severity = _HIGH if item.response_time > _VERY_SLOW else _MEDIUM
        words = f"A round trip takes {item.response_time:.0f} ms."
        yield _issue(item, "response_time", severity, words, "Look for load on the server, and at the network.")
    for category, left in (("memory", item.memory_left), ("disk", item.disk_left)):
        if left is not None and left < _LITTLE:
            severity = _CRITICAL if left < _VERY_LITTLE else _HIGH
            words = f"Only {left:.1%} of the {category} is left."
            yield _issue(item, category, severity, words, f"Free {category}, or give the machine more.")


def _issue(
    item: Inspection, category: str, severity: AssessmentSeverity, description: str, recommendation: str
) -> ConfigurationIssue:
    return ConfigurationIssue(
        id=f"{item.target.name}:{category}",
        server_name=item.target.name,
        issue_type=_ISSUE_TYPES.get(category, IssueType.PERFORMANCE_ISSUE),
        severity=severity,
        description=description,
        details=_measured(item),
        recommendation=recommendation,
        priority=_PRIORITY[severity],
        category=category,
    )


def _status(item: Inspection, now: datetime) -> ServerStatusInfo:
    return ServerStatusInfo(
        name=item.target.name,
        status=ServerStatus.ONLINE if item.error is None else ServerStatus.OFFLINE,
        last_check=now,
        response_time=item.response_time,
        error=item.error,
        metadata=_measured(item),
    )


def _measured(item: Inspection) -> JsonObject:
    """Everything that was measured, and nothing that was not."""
    values = {
        "address": item.target.address,
        "version": item.version,
        "authentication": item.authentication,
        "tls": item.tls,
        "memoryLeft": item.memory_left,
        "diskLeft": item.disk_left,
    }
    return {name: value for name, value in values.items() if value is not None}


def _score(found: Iterable[ConfigurationIssue]) -> float:
    """100 for a server without an issue, 0 for one that does not respond."""
    found = list(found)
    if any(issue.category == "availability" for issue in found):
        return 0.0
    return max(0.0, 100.0 - sum(_PENALTY[issue.severity] for issue in found if issue.severity))
