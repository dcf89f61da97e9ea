"""Shorter times for a run that has no days, which no setting shortens: for others' servers; and batches of imports."""

from __future__ import annotations

from typing import Any

# Shorter than the longest freeze: so a webhook is taken over, and the one that wakes up tells it a second time.
_WEBHOOKS: dict[str, Any] = {
    "_TURN_SECONDS": 1.0,
    "_ANSWER_SECONDS": 3.0,
    "_LEASE_SECONDS": 5.0,
    "_LONGEST_PAUSE_SECONDS": 1.0,
    "SCHEDULE": (1,) * 9,
}

_AUDIT: dict[str, Any] = {"_ANSWER_SECONDS": 3.0, "_LONGEST_PAUSE_SECONDS": 1.0}

_IMPORTS: dict[str, Any] = {"BATCH": 10}


def hurry() -> None:
    """Let webhooks and the audit service be told again within seconds, and an import have several batches."""
    from ..legacy import importing  # noqa: PLC0415 - who is in no hurry has no use for it
    from ..outward import audit, webhooks  # noqa: PLC0415

    for module, times in ((webhooks, _WEBHOOKS), (audit, _AUDIT), (importing, _IMPORTS)):
        for name, value in times.items():
            getattr(module, name)  # else it has another name by now, and nothing would be any sooner
            setattr(module, name, value)
