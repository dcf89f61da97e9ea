"""What inspections amount to: issues, scores and recommendations, in the types of the contract; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import mean

import orjson

from ..models.result import (
    AssessmentReport,
    AssessmentResult,
    AssessmentSeverity,
    AssessmentSummary,
    ConfigurationIssue,
    IssueType,
    ReportFormat,
    ServerStatus,
    ServerStatusInfo,
)
from .checks import Rule
from .inspection import Inspection, checks_of
from .scope import Scope

_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW

_PENALTY = {_CRITICAL: 50, _HIGH: 25, _MEDIUM: 10, _LOW: 3}
_PRIORITY = {_CRITICAL: 1, _HIGH: 2, _MEDIUM: 3, _LOW: 4}


def failure(inspections: Sequence[Inspection], missing: Sequence[str]) -> str | None:
    """Return why an assessment fails: not one of its servers is known, or not one responds."""
    if not inspections:
        return f"No server is known here by the name of {', '.join(missing)}"
    errors = [f"{item.target.name} at {item.target.address}: {item.error}" for item in inspections if item.error]
    return "; ".join(errors) if len(errors) == len(inspections) else None


def result(inspections: Sequence[Inspection], missing: Sequence[str], scope: Scope, now: datetime) -> AssessmentResult:
    """Judge what was measured, and what is missing.

    Args:
        inspections: of the servers that are known; at least one of these or of the missing.
        missing: names or patterns that are those of no server.
        scope: what was asked for.
        now: when it was.
    """
    by_server = [list(issues(item, scope)) for item in inspections] + [[_unknown(name)] for name in missing]
    scores = [*map(score, inspections, by_server), *(0.0 for _ in missing)]
    found = [issue for of_server in by_server for issue in of_server]
    compliant = sum(all(issue.severity == _LOW for issue in of_server) for of_server in by_server)
    overall = round(mean(scores), 1)
    judged = AssessmentResult(
        timestamp=now,
        total_servers=len(by_server),
        compliant_servers=compliant,
        non_compliant_servers=len(by_server) - compliant,
        missing_servers=[*(item.target.name for item in inspections if item.error), *missing],
        configuration_issues=found,
        server_statuses=[_status(item, scope, now) for item in inspections],
        overall_score=overall,
        summary=_summary(found),
    )
    return judged.model_copy(update={"report": _report(found, overall, now)}) if scope.report else judged


def issues(item: Inspection, scope: Scope) -> Iterator[ConfigurationIssue]:
    """Name what is wrong with one server, and what to do about it."""
    if item.error is not None:
        yield ConfigurationIssue(
            id=f"{item.target.name}:availability",
            server_name=item.target.name,
            issue_type=IssueType.INVALID_CONFIG,
            severity=_CRITICAL,
            description=f"It does not respond: {item.error}",
            details={"address": item.target.address},
            recommendation="Start the server, or correct its address.",
            priority=_PRIORITY[_CRITICAL],
            category="availability",
        )
        return
    for rule in checks_of(item.target).broken_rules(item.facts, scope.aspects):
        yield _issue(item, rule, scope)
    for words, why in item.unchecked.items():
        yield _unchecked(item, words, why)


def score(item: Inspection, found: Iterable[ConfigurationIssue]) -> float:
    """100 for a server without an issue, 0 for one that does not respond."""
    if item.error is not None:
        return 0.0
    return max(0.0, 100.0 - sum(_PENALTY[issue.severity] for issue in found if issue.severity))


def _issue(item: Inspection, rule: Rule, scope: Scope) -> ConfigurationIssue:
    severity = rule.locally if rule.locally and item.target.is_local else rule.severity
    values = [", ".join(value) if isinstance(value, list) else value for value in rule.values(item.facts)]
    details = {name: item.facts[name] for name in rule.facts} if scope.details else {}
    return ConfigurationIssue(
        id=f"{item.target.name}:{rule.name}",
        server_name=item.target.name,
        issue_type=rule.type,
        severity=severity,
        description=rule.words.format(*values),
        details={"address": item.target.address, **details},
        recommendation=rule.advice,
        priority=_PRIORITY[severity],
        category=rule.category,
    )


def _unchecked(item: Inspection, words: str, why: str) -> ConfigurationIssue:
    """What could not be looked at is not well, as far as anybody knows."""
    return ConfigurationIssue(
        id=f"{item.target.name}:unchecked:{words}",
        server_name=item.target.name,
        issue_type=IssueType.INCOMPLETE_CONFIG,
        severity=_MEDIUM,
        description=f"Not checked ({words}): {why}",
        details={"address": item.target.address},
        recommendation="Give the user of the inspection the right to look at it.",
        priority=_PRIORITY[_MEDIUM],
        category="unchecked",
    )


def _unknown(name: str) -> ConfigurationIssue:
    return ConfigurationIssue(
        id=f"{name}:missing",
        server_name=name,
        issue_type=IssueType.MISSING_CONFIG,
        severity=_HIGH,
        description="No server is known here by this name.",
        details={},
        recommendation="Correct the name, or add the server to the targets of the compliance server.",
        priority=_PRIORITY[_HIGH],
        category="missing",
    )


def _status(item: Inspection, scope: Scope, now: datetime) -> ServerStatusInfo:
    return ServerStatusInfo(
        name=item.target.name,
        status=ServerStatus.ONLINE if item.error is None else ServerStatus.OFFLINE,
        last_check=now,
        response_time=item.facts.get("responseTime"),
        error=item.error,
        metadata={"address": item.target.address, "kind": item.target.kind, **(item.facts if scope.details else {})},
    )


def _summary(found: Iterable[ConfigurationIssue]) -> AssessmentSummary:
    severities = Counter(issue.severity for issue in found)
    return AssessmentSummary(
        critical_issues=severities[_CRITICAL],
        high_issues=severities[_HIGH],
        medium_issues=severities[_MEDIUM],
        low_issues=severities[_LOW],
    )


def _report(found: Iterable[ConfigurationIssue], overall: float, now: datetime) -> AssessmentReport:
    """The result for people: what to do, the most urgent first."""
    urgent_first = sorted(found, key=lambda issue: (issue.priority or 0, issue.id or ""))
    to_do = [f"{issue.server_name}: {issue.description} {issue.recommendation}" for issue in urgent_first]
    content = orjson.dumps({"overallScore": overall, "toDo": to_do}, option=orjson.OPT_INDENT_2).decode()
    return AssessmentReport(generated_at=now, format=ReportFormat.JSON, content=content, size=len(content.encode()))
