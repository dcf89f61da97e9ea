"""Shorter times for a run that has no days, which no setting shortens: those of webhooks, and batches of imports."""

from __future__ import annotations

# Shorter than the longest freeze: so a webhook is taken over, and the one that wakes up tells it a second time.
_TURN_SECONDS, _ANSWER_SECONDS, _LEASE_SECONDS = 1.0, 3.0, 5.0

_SCHEDULE = (1,) * 9

_BATCH = 10


def hurry() -> None:
    """Let webhooks be told again within seconds, and an import have several batches."""
    from ..legacy import importing  # noqa: PLC0415 - who is in no hurry has no use for it
    from ..outward import webhooks  # noqa: PLC0415

    webhooks._TURN_SECONDS = _TURN_SECONDS
    webhooks._ANSWER_SECONDS = _ANSWER_SECONDS
    webhooks._LEASE_SECONDS = _LEASE_SECONDS
    webhooks._LONGEST_PAUSE_SECONDS = 1.0
    webhooks.SCHEDULE = _SCHEDULE
    importing.BATCH = _BATCH
