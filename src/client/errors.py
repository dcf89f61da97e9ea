"""What can go wrong for a client.

AssessmentStoreError
├── ClientError      the API refused a request, or does not answer
└── DeliveryError    a handler failed for good, or its events do not come
"""

from __future__ import annotations

from ..models.base import JsonObject
from ..models.errors import AssessmentStoreError
from ..models.events import AssessmentEvent

UNREACHABLE = "UNREACHABLE"
"""The code of an API that does not answer at all."""

UNEXPECTED_ANSWER = "UNEXPECTED_ANSWER"
"""The code of an answer that is not one of this API."""


class ClientError(AssessmentStoreError):
    """The API refused a request, or (status 0) could not be reached."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: JsonObject | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after
        """Seconds after which the server wants to be asked again."""


class DeliveryError(AssessmentStoreError):
    """Something could not be delivered to the handler of a subscription; the cause is what was raised."""

    def __init__(self, message: str, *, subscription_id: str, event: AssessmentEvent | None = None) -> None:
        """Tell what happened.

        Args:
            message: what.
            subscription_id: to whom.
            event: that the handler failed on; nothing where it is the stream itself that fails.
        """
        super().__init__(message)
        self.subscription_id = subscription_id
        self.event = event
