"""The result of a completed assessment and its parts; every member is optional, but of its type where it is given."""

from __future__ import annotations

from enum import StrEnum

from .base import Count, JsonObject, Number, OpenWireModel, Score, Text, Timestamp


class AssessmentSeverity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class ServerStatus(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"
    ERROR = "error"
    UNKNOWN = "unknown"


class IssueType(StrEnum):
    MISSING_CONFIG = "missing_config"
    INCOMPLETE_CONFIG = "incomplete_config"
    INVALID_CONFIG = "invalid_config"
    SECURITY_ISSUE = "security_issue"
    PERFORMANCE_ISSUE = "performance_issue"


class ReportFormat(StrEnum):
    HTML = "html"
    PDF = "pdf"
    JSON = "json"


class ConfigurationIssue(OpenWireModel):
    """One thing found wrong on one server, and what to do about it."""

    id: Text | None = None
    server_name: Text | None = None
    issue_type: IssueType | None = None
    severity: AssessmentSeverity | None = None
    description: Text | None = None
    details: JsonObject | None = None
    recommendation: Text | None = None
    priority: Number | None = None
    category: Text | None = None


class ServerStatusInfo(OpenWireModel):
    """How one server answered."""

    name: Text | None = None
    status: ServerStatus | None = None
    command: Text | None = None
    args: list[Text] | None = None
    env: dict[str, Text] | None = None
    last_check: Timestamp | None = None
    response_time: Number | None = None
    """Milliseconds."""
    error: Text | None = None
    metadata: JsonObject | None = None


class AssessmentSummary(OpenWireModel):
    """Issues counted by severity."""

    critical_issues: Count | None = None
    high_issues: Count | None = None
    medium_issues: Count | None = None
    low_issues: Count | None = None


class AssessmentReport(OpenWireModel):
    """A report made of the result."""

    generated_at: Timestamp | None = None
    format: ReportFormat | None = None
    content: Text | None = None
    size: Count | None = None
    """Bytes."""
    download_url: Text | None = None


class AssessmentResult(OpenWireModel):
    """What `assessment.complete` reports."""

    timestamp: Timestamp | None = None
    total_servers: Count | None = None
    compliant_servers: Count | None = None
    non_compliant_servers: Count | None = None
    missing_servers: list[Text] | None = None
    configuration_issues: list[ConfigurationIssue] | None = None
    server_statuses: list[ServerStatusInfo] | None = None
    overall_score: Score | None = None
    summary: AssessmentSummary | None = None
    report: AssessmentReport | None = None
    metadata: JsonObject | None = None
