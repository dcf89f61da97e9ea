"""What can go wrong with a compliance server, each with a kind of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

import aiohttp

from ..models.errors import AssessmentStoreError


class FaultKind(StrEnum):
    """The kinds; an assessment that fails for one has it in its error."""

    UNREACHABLE = "unreachable"
    """Nobody takes the connection."""
    TIMED_OUT = "timed_out"
    """The answer, or the end of the assessment, did not come in time."""
    CONNECTION_LOST = "connection_lost"
    """The connection ended before the answer did."""
    SERVER_ERROR = "server_error"
    """A status of 500 and above."""
    BUSY = "busy"
    """429, or another status that asks to come again."""
    LEFT_ALONE = "left_alone"
    """The breaker is open: the server was not asked."""
    MISCONFIGURED = "misconfigured"
    """401, 403, 404, 405 or a redirect: the key or the address is wrong, and not the assessment."""
    BAD_ANSWER = "bad_answer"
    """The answer has not the agreed shape."""
    TOO_LARGE = "too_large"
    """The answer did not end within the limit of its size."""
    REFUSED = "refused"
    """The server does not take the request, and says so."""
    FAILED = "failed"
    """The server did the assessment, and reports that it failed."""
    UNREADABLE = "unreadable"
    """The stored request is encrypted, and this worker has no key for it."""


PASSING = frozenset(
    {
        FaultKind.UNREACHABLE,
        FaultKind.TIMED_OUT,
        FaultKind.CONNECTION_LOST,
        FaultKind.SERVER_ERROR,
        FaultKind.BUSY,
        FaultKind.LEFT_ALONE,
        FaultKind.MISCONFIGURED,
    }
)
"""The kinds after which the same call may go well later; the others end the attempt."""


class ComplianceError(AssessmentStoreError):
    """A compliance server did not do what was asked."""

    def __init__(self, kind: FaultKind, server: str, what: str, *, retry_after: float | None = None) -> None:
        """Describe it.

        Args:
            kind: of the fault.
            server: the address.
            what: happened, in words.
            retry_after: seconds that the server asks to be left alone.
        """
        super().__init__(f"{kind}: {what} (compliance server {server})")
        self.kind = kind
        self.what = what
        self.retry_after = retry_after


@contextmanager
def call_errors(server: str, seconds: float) -> Iterator[None]:
    """Translate the errors of aiohttp.

    Raises:
        ComplianceError: UNREACHABLE, TIMED_OUT, CONNECTION_LOST or BAD_ANSWER.
    """
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise ComplianceError(FaultKind.UNREACHABLE, server, f"it cannot be reached: {error}") from error
    except TimeoutError as error:
        raise ComplianceError(FaultKind.TIMED_OUT, server, f"it gave no answer within {seconds:g} s") from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        raise ComplianceError(FaultKind.BAD_ANSWER, server, f"its answer is no HTTP: {error}") from error
    except (aiohttp.ClientError, OSError) as error:
        what = f"the connection ended before the answer did: {error!r}"
        raise ComplianceError(FaultKind.CONNECTION_LOST, server, what) from error
