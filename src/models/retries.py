"""When a failed assessment is tried again by itself: a policy, and the times that it comes to."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Self

from pydantic import ConfigDict, Field, ValidationError

from .base import AS_WRITTEN, WHOLE, JsonObject, OpenWireModel

POLICY = "retryPolicy"
"""The member of a request that has its policy."""

JITTER = 0.25
"""The part of a delay that chance may take off, so that what failed together does not come back together."""

_SECONDS_OF_A_WEEK = 7 * 24 * 3600.0

_DelaySeconds = Annotated[float, Field(strict=True, gt=0, le=_SECONDS_OF_A_WEEK), *AS_WRITTEN]


class RetryPolicy(OpenWireModel):
    """How often a failed assessment is tried again by itself, and after which delays."""

    # Nothing of the caller's own is kept: a policy stays clear where the rest of its request is encrypted.
    model_config = ConfigDict(extra="ignore")

    max_retries: Annotated[int, Field(strict=True, ge=0, le=100), WHOLE]
    """No more retries by itself once `retryCount` is this; 0 is none."""
    initial_delay_seconds: _DelaySeconds = 10.0
    """From the first failure to the retry, at most."""
    backoff_coefficient: Annotated[float, Field(strict=True, ge=1, le=10), *AS_WRITTEN] = 2.0
    """What each delay is multiplied by to make the next one."""
    max_delay_seconds: _DelaySeconds = 3600.0
    """No delay is longer."""

    @classmethod
    def of(cls, request: JsonObject) -> Self | None:
        """The policy of a stored request, or nothing where it has none.

        One that is no policy is from a time when callers might keep whatever they liked there.
        """
        try:
            return cls.model_validate(request[POLICY]) if POLICY in request else None
        except ValidationError:
            return None

    def delay(self, assessment_id: str, retry_count: int) -> timedelta | None:
        """How long to wait until the retry that follows on so many, or nothing where none follows.

        The same for the same assessment and count, whoever asks: chance is made of these two.
        """
        if retry_count >= self.max_retries:
            return None
        longest = min(self.initial_delay_seconds * self.backoff_coefficient**retry_count, self.max_delay_seconds)
        return timedelta(seconds=longest * (1 - JITTER * _chance(assessment_id, retry_count)))


NO_RETRIES = RetryPolicy(max_retries=0)
"""What holds where neither the request nor the installation says anything."""


def _chance(assessment_id: str, retry_count: int) -> float:
    """A number from 0 to 1, without 1."""
    digest = blake2b(f"{retry_count}:{assessment_id}".encode(), digest_size=8).digest()
    # As many bits as a float has: with more, the nearest one may be 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53
