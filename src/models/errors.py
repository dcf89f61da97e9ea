"""Every error that a caller is told, on Kafka and over HTTP alike.

AssessmentStoreError
├── RejectedError       a command or request was refused; carries the Rejection
├── NotACommandError    bytes that are not a command: they go to the dead letters
└── UnavailableError    Postgres, Kafka or Redis is away: the same call may work later
    └── StaleError      Postgres answers, but has not applied what the caller wants to see
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ValidationError, WithJsonSchema

from .assessment import AssessmentState
from .base import JsonObject, StableWireModel
from .commands import CommandHeader, CommandType
from .positions import TOKEN_HEADER

_MOST_ERRORS_TOLD = 20


class ErrorCode(StrEnum):
    """The codes of the contract; the HTTP status of each stands in `web/errors.py`."""

    VALIDATION_ERROR = "VALIDATION_ERROR"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "ASSESSMENT_NOT_FOUND"
    WEBHOOK_NOT_FOUND = "WEBHOOK_NOT_FOUND"
    TIMEOUT = "ASSESSMENT_TIMEOUT"
    INVALID_STATE_TRANSITION = "INVALID_STATE_TRANSITION"
    ALREADY_EXISTS = "ASSESSMENT_ALREADY_EXISTS"
    OPTIMISTIC_LOCK_FAILED = "OPTIMISTIC_LOCK_FAILED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    RATE_LIMITED = "RATE_LIMITED"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"


OpenErrorCode = Annotated[ErrorCode, WithJsonSchema({"type": "string"})]
"""To readers, a text: new codes may come, and nobody is to refuse a record for that."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why something was refused."""

    code: ErrorCode
    message: str
    details: JsonObject = field(default_factory=dict)

    @classmethod
    def invalid(cls, message: str, **details: object) -> Rejection:
        """The data is wrong, whatever the state is."""
        return cls(ErrorCode.VALIDATION_ERROR, message, dict(details))

    @classmethod
    def from_validation(cls, error: ValidationError) -> Rejection:
        """What pydantic found, with a JSON pointer (RFC 6901) to each place."""
        found = [{"pointer": _pointer(item["loc"]), "message": _words(item["loc"], item)} for item in error.errors()]
        first = found[0]
        told = first["message"] if first["message"] in _FIXED else f"{first['pointer'] or 'data'}: {first['message']}"
        return cls.invalid(told, errors=found[:_MOST_ERRORS_TOLD])

    @classmethod
    def not_found(cls, assessment_id: str) -> Rejection:
        """No assessment has this id."""
        return cls(ErrorCode.NOT_FOUND, f"Assessment {assessment_id} not found")

    @classmethod
    def already_exists(cls, assessment_id: str) -> Rejection:
        """A create of an id that is taken."""
        return cls(ErrorCode.ALREADY_EXISTS, f"Assessment {assessment_id} already exists")

    @classmethod
    def transition(
        cls, assessment_id: str, state: AssessmentState, to: AssessmentState, allowed: tuple[AssessmentState, ...]
    ) -> Rejection:
        """The state machine has no such arrow."""
        return cls(
            ErrorCode.INVALID_STATE_TRANSITION,
            f"Assessment {assessment_id} cannot go from {state} to {to}",
            {"from": str(state), "to": str(to), "allowed": [str(target) for target in allowed]},
        )

    @classmethod
    def lock_failed(cls, assessment_id: str, expected: int, actual: int) -> Rejection:
        """The caller looked at another version than the current one."""
        return cls(
            ErrorCode.OPTIMISTIC_LOCK_FAILED,
            f"Assessment {assessment_id} is at version {actual}, not {expected}: read it again",
            {"expectedVersion": expected, "actualVersion": actual},
        )

    @classmethod
    def attempt_over(cls, assessment_id: str, attempt: int, actual: int) -> Rejection:
        """The command is meant for another attempt than the present one."""
        return cls(
            ErrorCode.OPTIMISTIC_LOCK_FAILED,
            f"Assessment {assessment_id} is in attempt {actual}, not {attempt}: the command was meant for that one",
            {"attempt": attempt, "actualAttempt": actual},
        )

    @classmethod
    def idempotency_mismatch(cls, command_id: str) -> Rejection:
        """A command id or Idempotency-Key that came before with another content."""
        return cls(
            ErrorCode.IDEMPOTENCY_MISMATCH,
            f"{command_id} was used before for another request: give every request a key of its own",
            {"commandId": command_id},
        )


class RejectedCommand(StableWireModel):
    """A record of the rejections topic: the refused command, and why it was refused."""

    command_id: str
    type: CommandType
    assessment_id: str
    code: OpenErrorCode
    message: str
    details: JsonObject
    user_id: str | None
    """Who asked."""
    rejected_at: datetime

    @classmethod
    def of(cls, header: CommandHeader, rejection: Rejection, *, at: datetime) -> Self:
        """The record of a command that was refused at a time."""
        return cls(
            command_id=header.id,
            type=header.type,
            assessment_id=header.assessment_id,
            code=rejection.code,
            message=rejection.message,
            details=rejection.details,
            user_id=header.user_id,
            rejected_at=at,
        )


_FIXED = (
    TYPE_REQUIRED := "Assessment type is required",
    OPTIONS_REQUIRED := "Assessment options are required",
    PROGRESS_RANGE := "Progress must be between 0 and 100",
)


def _words(location: tuple[int | str, ...], item: object) -> str:
    """The message of one error: the reference's words where it has them."""
    kind, message = item["type"], str(item["msg"])  # type: ignore[index]
    # Of these two the reference takes what is empty for what is not there.
    absent = kind == "missing" or item["input"] in (None, "")  # type: ignore[index]
    if location == ("assessmentType",) and absent:
        return TYPE_REQUIRED
    if location == ("options",) and absent:
        return OPTIONS_REQUIRED
    if location == ("progress",) and kind in {"greater_than_equal", "less_than_equal"}:
        return PROGRESS_RANGE
    return message.removeprefix("Value error, ")


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


class AssessmentStoreError(Exception):
    """The root of this package's errors."""


class RejectedError(AssessmentStoreError):
    """A command or request was refused."""

    def __init__(self, rejection: Rejection, *, assessment_id: str | None = None, replayed: bool = False) -> None:
        """Tell a refusal, and whether it is the one that an earlier command with the same id got."""
        super().__init__(rejection.message)
        self.rejection = rejection
        self.assessment_id = assessment_id
        self.replayed = replayed


class NotACommandError(AssessmentStoreError):
    """The bytes are not a command; the message is the reason told with the dead letter."""


class UnavailableError(AssessmentStoreError):
    """A service does not answer; the message begins with its name."""

    @property
    def service(self) -> str:
        """The name of the service, in lower case."""
        return str(self).split(" ", 1)[0].lower()


class StaleError(UnavailableError):
    """Postgres has not applied every command that the caller wants to see."""

    def __init__(self, lag: Mapping[int, int]) -> None:
        """Tell how far behind it is: the commands of each partition that are not applied."""
        super().__init__(f"Postgres is {sum(lag.values())} commands behind the {TOKEN_HEADER}")
        self.lag = lag
