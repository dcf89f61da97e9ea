"""The key ring: AES-256-GCM over payloads, with the assessment id as associated data (docs/adr/0013)."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
from collections.abc import Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..models.assessment import AssessmentRecord
from ..models.base import JsonObject
from ..models.errors import AssessmentStoreError
from ..models.events import AssessmentEvent, Completed, Created, Imported
from ..models.sealed import (
    DIGEST,
    MEMBER,
    PAYLOADS,
    UNREADABLE,
    Fingerprint,
    UnreadableError,
    clear_members,
    sealed_part,
)
from ..settings import ENV_PREFIX, Settings, SettingsError

logger = logging.getLogger(__name__)

_KEY_BYTES = 32
_NONCE_BYTES = 12
# Without it, the digest of a payload would let anybody try out guesses.
_SALT_BYTES = 16

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_MARK = f'"{MEMBER}"'


class KeyRingError(AssessmentStoreError):
    """The keys cannot be read; the message names none of their bytes."""


class KeyRing:
    """Keys by their ids: the first one seals, every one opens. Without a key, what is clear stays clear."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take keys of 32 bytes, the newest first."""
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._fingerprint_keys = [blake2b(b"assessmentstore fingerprints", key=key).digest() for key in keys.values()]
        self.current: str | None = next(iter(keys), None)
        """The id of the key that seals."""

    @classmethod
    def of(cls, settings: Settings) -> KeyRing:
        """The keys that the settings name.

        Raises:
            SettingsError: they cannot be read.
        """
        if settings.encryption_keys is None:
            return NO_KEYS
        try:
            return cls.parse(settings.encryption_keys.get_secret_value())
        except KeyRingError as error:
            raise SettingsError(f"{ENV_PREFIX}ENCRYPTION_KEYS: {error}") from error

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read `id:base64` with commas or lines between, or the path of a file with that, `@` before it or not.

        Raises:
            KeyRingError: it is none.
        """
        return cls(_keys(text))

    def __bool__(self) -> bool:
        return self.current is not None

    def standing(self, key_id: str) -> str:
        """What a key is to this ring: `current`, `old`, or `missing`."""
        if key_id == self.current:
            return "current"
        return "old" if key_id in self._ciphers else "missing"

    def seal(self, assessment_id: str, value: JsonObject, clear: JsonObject | None = None) -> JsonObject:
        """Seal a value whole; `clear` stands beside the cipher text."""
        if self.current is None:
            return value
        salted = os.urandom(_SALT_BYTES) + orjson.dumps(value)
        return (clear or {}) | {MEMBER: self._encrypt(assessment_id, salted)}

    def open(self, assessment_id: str, value: JsonObject) -> JsonObject:
        """The clear value; one that is clear stays as it is.

        Raises:
            UnreadableError: its key is not there, or is another, or the value was changed.
        """
        part = sealed_part(value)
        if part is None:
            return value
        opened: JsonObject = orjson.loads(self._decrypt(assessment_id, part)[_SALT_BYTES:])
        return opened

    def reseal(self, assessment_id: str, value: JsonObject) -> JsonObject:
        """The same value under the current key; its digest, which the audit trail hashes, stays.

        Raises:
            UnreadableError: it cannot be opened.
        """
        part = sealed_part(value)
        if part is None or part["keyId"] == self.current:
            return value
        return value | {MEMBER: self._encrypt(assessment_id, self._decrypt(assessment_id, part))}

    def fingerprint(self, content: bytes) -> bytes:
        """The fingerprint of a command's or a request's content, keyed: it tells nothing to who has no key."""
        plain = blake2b(content, digest_size=16).digest()
        if self.current is None:
            return plain
        first, *others = (blake2b(content, digest_size=16, key=key).digest() for key in self._fingerprint_keys)
        found = Fingerprint(first)
        found.former = frozenset([*others, plain])
        return found

    def readable(self, assessment_id: str, value: JsonObject) -> JsonObject:
        """The clear value, or what is clear of it and why the rest is not."""
        try:
            return self.open(assessment_id, value)
        except UnreadableError as error:
            logger.warning("%s", error, extra={"action": "payload_unreadable", "assessment_id": assessment_id})
            told = {"keyId": value[MEMBER]["keyId"], "reason": str(error)}
            return {name: item for name, item in value.items() if name != MEMBER} | {UNREADABLE: told}

    def seal_event(self, event: AssessmentEvent) -> AssessmentEvent:
        """The event with its payload sealed, where it has one."""
        if self.current is None:
            return event
        key = event.assessment_id
        sealed: dict[str, Any] = {}
        if isinstance(event, Created | Imported):
            sealed["request"] = self.seal(key, event.request, clear_members(event.request))
        if isinstance(event, Completed | Imported) and event.result is not None:
            sealed["result"] = self.seal(key, event.result)
        return event.model_copy(update=sealed) if sealed else event

    def open_event(self, text: str) -> str:
        """An event's JSON as whoever may see it is to read it."""
        # Most events have no payload, and to look for a text is a hundred times quicker than to parse.
        if _MARK not in text:
            return text
        event = orjson.loads(text)
        opened = {name: self.readable(event["assessmentId"], event[name]) for name in PAYLOADS if name in event}
        return orjson.dumps(event | opened).decode()

    def open_event_strictly(self, data: bytes) -> bytes:
        """An event's JSON with its payload clear.

        Raises:
            UnreadableError: it cannot be opened.
        """
        if _MARK.encode() not in data:
            return data
        event = orjson.loads(data)
        opened = {name: self.open(event["assessmentId"], event[name]) for name in PAYLOADS if name in event}
        return orjson.dumps(event | opened)

    def open_record(self, record: AssessmentRecord) -> AssessmentRecord:
        """A state as whoever may see it is to read it."""
        changes: dict[str, Any] = {}
        key = record.assessment_id
        if sealed_part(record.request_data) is not None:
            request = self.readable(key, record.request_data)
            changes |= {"request_data": request, "metadata": request.get("metadata")}
        if record.result_data is not None and sealed_part(record.result_data) is not None:
            changes["result_data"] = self.readable(key, record.result_data)
        return record.model_copy(update=changes) if changes else record

    def has_keys_of(self, record: AssessmentRecord) -> bool:
        """Whether the keys of a state's payloads are here: an old copy of it may be under one that is gone."""
        return self.missing_of(record) is None

    def missing_of(self, record: AssessmentRecord) -> str | None:
        """The id of a key that a state's payloads need and that is not here; nothing where all are."""
        parts = (sealed_part(record.request_data), sealed_part(record.result_data))
        return next((part["keyId"] for part in parts if part is not None and part["keyId"] not in self._ciphers), None)

    def _encrypt(self, assessment_id: str, salted: bytes) -> dict[str, str]:
        assert self.current is not None  # noqa: S101 - who seals has a key
        nonce = os.urandom(_NONCE_BYTES)
        data = self._ciphers[self.current].encrypt(nonce, salted, assessment_id.encode())
        told = {"nonce": base64.b64encode(nonce).decode(), "data": base64.b64encode(data).decode()}
        return {"keyId": self.current, **told, DIGEST: sha256(salted).hexdigest()}

    def _decrypt(self, assessment_id: str, part: Mapping[str, str]) -> bytes:
        name = part["keyId"]
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise UnreadableError(f"The payload is encrypted under the key {name[:64]!r}, which is not configured here")
        try:
            nonce, data = (base64.b64decode(part[item], validate=True) for item in ("nonce", "data"))
            salted = cipher.decrypt(nonce, data, assessment_id.encode())
        except (InvalidTag, binascii.Error, ValueError) as error:
            words = "is another key than the one it was encrypted with, or the payload was changed"
            raise UnreadableError(f"The payload cannot be decrypted: the key {name!r} {words}") from error
        if sha256(salted).hexdigest() != part[DIGEST]:
            raise UnreadableError("The payload is not the one that its digest was made of: it was changed")
        return salted


NO_KEYS = KeyRing({})
"""Nothing is sealed, and nothing sealed can be opened."""


def generate(key_id: str) -> str:
    """A new key, as the settings take it.

    Raises:
        KeyRingError: it cannot have this id.
    """
    if not _KEY_ID.fullmatch(key_id):
        raise KeyRingError(f"{key_id!r} is no id of a key: take up to 64 of A-Z a-z 0-9 . _ -")
    return f"{key_id}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def _keys(text: str) -> Mapping[str, bytes]:
    keys: dict[str, bytes] = {}
    for place, item in enumerate(re.split(r"[,\s]+", _content(text.strip()).strip()), 1):
        name, _, encoded = item.partition(":")
        if not _KEY_ID.fullmatch(name) or not encoded:
            raise KeyRingError(f"key {place} is not id:base64; make one with `assessmentstore encryption keygen`")
        if name in keys:
            raise KeyRingError(f"the id {name} stands there twice")
        keys[name] = _key(name, encoded)
    return keys


def _key(name: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise KeyRingError(f"the key {name} is no base64") from error
    if len(key) != _KEY_BYTES:
        raise KeyRingError(f"the key {name} has {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _content(text: str) -> str:
    if ":" in text and not text.startswith("@"):
        return text
    try:
        return Path(text.removeprefix("@")).read_text()
    except (OSError, ValueError) as error:
        # Not the text itself: it may be a key whose id was forgotten.
        raise KeyRingError(f"it is neither id:base64 nor a file that can be read: {type(error).__name__}") from error
