"""Ways to break encryption on purpose; applied inside a worker or a web, before it begins.

Each takes away one guard, and leaves everything else as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..models.sealed import Fingerprint
from ..store.encryption import KeyRing


def seal_nothing() -> None:
    """What is accepted rests as it came."""

    def as_it_is(self: KeyRing, event: Any) -> Any:  # noqa: ARG001 - as the method
        return event

    KeyRing.seal_event = as_it_is  # type: ignore[method-assign]


def forget_old_keys() -> None:
    """A ring has its first key alone."""
    begin = KeyRing.__init__

    def forgetful(self: KeyRing, keys: Mapping[str, bytes]) -> None:
        begin(self, dict(list(keys.items())[:1]))

    KeyRing.__init__ = forgetful  # type: ignore[method-assign]


def forget_old_fingerprints() -> None:
    """A fingerprint is what it is under the first key, and nothing else."""
    make = KeyRing.fingerprint

    def forgetful(self: KeyRing, content: bytes) -> bytes:
        found = make(self, content)
        if isinstance(found, Fingerprint):
            found.former = frozenset()
        return found

    KeyRing.fingerprint = forgetful  # type: ignore[method-assign]


BREAKERS: dict[str, Callable[[], None]] = {
    "seal-nothing": seal_nothing,
    "forget-old-keys": forget_old_keys,
    "forget-old-fingerprints": forget_old_fingerprints,
}
