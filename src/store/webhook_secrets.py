"""Secrets of webhooks as they rest: sealed by the key ring, with the webhook's id, where there are keys."""

from __future__ import annotations

from uuid import UUID

import orjson

from .encryption import KeyRing

_MEMBER = "secret"


def seal_secret(keys: KeyRing, webhook: UUID, secret: str) -> str:
    """What stands in the table: without keys the secret as it is."""
    return orjson.dumps(keys.seal(str(webhook), {_MEMBER: secret})).decode() if keys else secret


def open_secret(keys: KeyRing, webhook: UUID, stored: str) -> str:
    """The secret; one that stands there as it is was registered before there were keys.

    Raises:
        UnreadableError: its key is not there, or is another, or it was changed.
    """
    if not stored.startswith("{"):
        return stored
    return str(keys.open(str(webhook), orjson.loads(stored))[_MEMBER])
