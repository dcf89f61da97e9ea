"""Rules that hold for servers of several kinds."""

from __future__ import annotations

import re
import sys

from ..models.result import AssessmentSeverity, IssueType
from .checks import Rule
from .scope import Aspect

_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW

_ANYBODY = "It takes anybody without asking who it is: whoever reaches it can read and change the data."


def _slow(milliseconds: float, severity: AssessmentSeverity) -> Rule:
    return Rule(
        name="response_time",
        category="performance",
        aspect=Aspect.STATUS,
        type=IssueType.PERFORMANCE_ISSUE,
        severity=severity,
        facts=("responseTime",),
        broken=lambda time: time > milliseconds,
        words="A round trip takes {0:.0f} ms.",
        advice="Look for load on the server, and at the network.",
    )


def _scarce(what: str, least: float, severity: AssessmentSeverity) -> Rule:
    return Rule(
        name=what,
        category="resources",
        aspect=Aspect.STATUS,
        type=IssueType.PERFORMANCE_ISSUE,
        severity=severity,
        facts=(f"{what}Left",),
        broken=lambda left: left < least,
        words=f"Only {{0:.1%}} of the {what} is left.",
        advice=f"Free {what}, or give the machine more.",
    )


RESPONSE_TIME = (_slow(1000, _HIGH), _slow(100, _MEDIUM))

RESOURCES = tuple(
    _scarce(what, least, severity)
    for what in ("memory", "disk")
    for least, severity in ((0.03, _CRITICAL), (0.1, _HIGH))
)

AUTHENTICATION = Rule(
    name="authentication",
    category="authentication",
    aspect=Aspect.SECURITY,
    type=IssueType.SECURITY_ISSUE,
    severity=_CRITICAL,
    locally=_MEDIUM,
    facts=("authentication",),
    broken=lambda asks: not asks,
    words=_ANYBODY,
    advice="Create users, and ask for their passwords.",
)

ENCRYPTION = Rule(
    name="encryption",
    category="encryption",
    aspect=Aspect.SECURITY,
    type=IssueType.SECURITY_ISSUE,
    severity=_HIGH,
    locally=_LOW,
    facts=("tls",),
    broken=lambda encrypted: not encrypted,
    words="The connection is not encrypted: whoever is between reads along.",
    advice="Give the server a certificate, and turn TLS on.",
)


def out_of_support(oldest: int) -> Rule:
    """A version that gets no corrections any more.

    Args:
        oldest: the oldest major version that does.
    """
    return Rule(
        name="version",
        category="version",
        aspect=Aspect.CONFIGURATION,
        type=IssueType.INVALID_CONFIG,
        severity=_HIGH,
        facts=("version",),
        broken=lambda version: _major(version) < oldest,
        words="Version {0} is out of support.",
        advice=f"Upgrade to version {oldest} or newer.",
    )


def _major(version: str) -> int:
    """The number that a version like `16.4 (Debian)` or `17beta1` begins with; one without a number is no old one."""
    found = re.match(r"\d+", version)
    return int(found[0]) if found else sys.maxsize
