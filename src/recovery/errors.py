"""What keeps a recovery from going on."""

from __future__ import annotations

from ..models.errors import AssessmentStoreError


class RecoveryError(AssessmentStoreError):
    """The recovery cannot go on as things are; the message says what to do."""
