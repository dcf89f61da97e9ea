"""Encrypted payloads as JSON: how they look, and what of them the audit trail's hashes are taken of; no cryptography.

A sealed value is an object whose member `$encrypted` has the cipher text; members beside it are clear.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Protocol

from .base import JsonObject
from .errors import AssessmentStoreError

MEMBER = "$encrypted"
"""The member of a sealed value that has its cipher text."""

UNREADABLE = "$unreadable"
"""The member that says why a value could not be opened, in the place of the cipher text."""

DIGEST = "digest"

_PARTS = frozenset({"keyId", "nonce", "data", DIGEST})

PAYLOADS = ("request", "result")
"""The members of events that are sealed."""

CLEAR_MEMBERS = ("assessmentType", "priority", "retryPolicy", "source", "timeout", "userId")
"""The members of a request that filters, owners, counters, orders and timers go by."""


class UnreadableError(AssessmentStoreError):
    """One value cannot be opened; the message says under which key it is, and why not."""


class CommandCipher(Protocol):
    """Whoever opens the data of commands, and takes their fingerprints."""

    def open(self, assessment_id: str, value: JsonObject) -> JsonObject:
        """The clear value.

        Raises:
            UnreadableError: its key is not there, or is another, or the value was changed.
        """

    def fingerprint(self, content: bytes) -> bytes:
        """Sixteen bytes that tell this content from another."""


class Fingerprint(bytes):
    """A fingerprint that knows what else it would be: under the other keys, and of the same written otherwise."""

    former: Container[bytes] = frozenset()


def is_same_content(stored: bytes | None, fingerprint: bytes) -> bool:
    """Whether a stored fingerprint, if there is one, is of the same content."""
    return not stored or stored == fingerprint or stored in getattr(fingerprint, "former", ())


def sealed_part(value: Any) -> dict[str, str] | None:
    """The cipher text and what belongs to it, where a value is sealed."""
    part = value.get(MEMBER) if isinstance(value, dict) else None
    if not isinstance(part, dict) or part.keys() != _PARTS:
        return None
    return part if all(isinstance(item, str) for item in part.values()) else None


def clear_members(request: JsonObject) -> JsonObject:
    """What stays clear of a request; with options, which every request has, so that it still is one by the schema."""
    return {name: request[name] for name in CLEAR_MEMBERS if name in request} | {"options": {}}


def hashed_form(event: Any) -> Any:
    """An event as the audit trail hashes it: encrypting anew changes all of a sealed value but its digest."""
    if not isinstance(event, dict):
        return event
    parts = {name: part for name in PAYLOADS if (part := sealed_part(event.get(name))) is not None}
    if not parts:
        return event
    return event | {name: event[name] | {MEMBER: {DIGEST: part[DIGEST]}} for name, part in parts.items()}
