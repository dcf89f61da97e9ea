"""The roll-out: its steps, and what holds it or takes it back; pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from ..models.base import JsonObject

STEPS = (1, 5, 10, 25, 50, 75, 90, 95, 99, 100)
"""Percentages of the ids that the store serves."""

# One failure among three is no rate.
_FEWEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is known of the moment; nothing where there is too little to tell."""

    error_rate: float | None = None
    """Of HTTP requests, those that the store failed to answer."""
    response_ms: float | None = None
    """The mean of HTTP requests."""
    failure_rate: float | None = None
    """Of the assessments that ended, those that failed."""
    inconsistency: float | None = None
    """Of the assessments that were compared, those that are not the same in both systems."""
    unhealthy: str | None = None
    """Why the store does not serve; nothing where it does."""

    def to_wire(self) -> JsonObject:
        """The figures that are known."""
        names = {
            "error_rate": "errorRate",
            "response_ms": "responseTime",
            "failure_rate": "failureRate",
            "inconsistency": "dataInconsistency",
            "unhealthy": "systemHealth",
        }
        return {names[name]: value for name, value in asdict(self).items() if value is not None}


class Baseline(NamedTuple):
    """The first figures of a roll-out."""

    error_rate: float | None = None
    response_ms: float | None = None


class Verdict(NamedTuple):
    """What follows from the signals."""

    alerts: tuple[str, ...]
    """What holds the step."""
    triggers: tuple[str, ...]
    """What takes the roll-out back."""


class _Limit(NamedTuple):
    name: str
    alert: float | None
    rollback: float


_LIMITS: dict[str, _Limit] = {
    "error_rate": _Limit("errorRate", 0.05, 0.1),
    "response_ms": _Limit("responseTime", 5000, 10_000),
    "failure_rate": _Limit("failureRate", None, 0.05),
    "inconsistency": _Limit("dataInconsistency", None, 0.01),
}
"""The reference's thresholds; what has none of its own for an alert is taken back at once."""

_ANOMALIES = {"error_rate": 0.02, "response_ms": 2000.0}
"""How far a figure may go from the first one of the roll-out."""


def rate(part: int, whole: int) -> float | None:
    """A rate, or nothing where there are too few to tell."""
    return part / whole if whole >= _FEWEST else None


def judge(signals: Signals, baseline: Baseline) -> Verdict:
    """Hold signals against the thresholds, and against the baseline."""
    alerts, triggers = [], []
    for field, limit in _LIMITS.items():
        value = getattr(signals, field)
        if value is None:
            continue
        if value > limit.rollback:
            triggers.append(f"{limit.name} {value:.4g} > {limit.rollback:g}")
        elif limit.alert is not None and value > limit.alert:
            alerts.append(f"{limit.name} {value:.4g} > {limit.alert:g}")
        elif _is_anomaly(field, value, first := getattr(baseline, field, None)):
            alerts.append(f"{limit.name} {value:.4g}, and was {first:.4g} when the roll-out began")
    if signals.unhealthy:
        triggers.append(f"systemHealth: {signals.unhealthy}")
    return Verdict(tuple(alerts), tuple(triggers))


def _is_anomaly(field: str, value: float, first: float | None) -> bool:
    return first is not None and field in _ANOMALIES and value - first > _ANOMALIES[field]


def next_step(percentage: int) -> int | None:
    """The step after a percentage; nothing after the last."""
    return next((step for step in STEPS if step > percentage), None)
