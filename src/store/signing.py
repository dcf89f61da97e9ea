"""Ed25519 keys: one signs checkpoints and bundles, and whoever has its public half can tell."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ..models.errors import AssessmentStoreError
from ..settings import ENV_PREFIX, Settings, SettingsError

_PEM = "-----BEGIN "

# No path is as long; a key in PEM has line breaks besides.
_LONGEST_PATH = 4096


class KeyFormatError(AssessmentStoreError):
    """The key cannot be read."""


def key_id(public: Ed25519PublicKey) -> str:
    """The name of a key: the beginning of the hash of its public half."""
    return sha256(_raw(public)).hexdigest()[:16]


def signing_key(settings: Settings) -> SigningKey | None:
    """The key that the settings name, where they name one.

    Raises:
        SettingsError: it cannot be read.
    """
    if settings.audit_signing_key is None:
        return None
    try:
        return SigningKey.parse(settings.audit_signing_key.get_secret_value())
    except KeyFormatError as error:
        raise SettingsError(f"{ENV_PREFIX}AUDIT_SIGNING_KEY: {error}") from error


def trusted_keys(settings: Settings) -> PublicKeys:
    """The keys whose signatures the settings trust: those they name, and the public half of the signing key.

    Raises:
        SettingsError: one cannot be read.
    """
    own = signing_key(settings)
    texts = [text.strip() for text in settings.audit_public_keys.split(",") if text.strip()]
    try:
        return PublicKeys.parse(texts if own is None else [*texts, own.public])
    except KeyFormatError as error:
        raise SettingsError(f"{ENV_PREFIX}AUDIT_PUBLIC_KEYS: {error}") from error


class SigningKey:
    """The private half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.id = key_id(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """Make up a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Read a key: PEM, the base64 of its 32 bytes, or the path of a file with either.

        Raises:
            KeyFormatError: it is none.
        """
        content = _content(text)
        if not content.startswith(_PEM):
            return cls(Ed25519PrivateKey.from_private_bytes(_decoded(content)))
        try:
            key = load_pem_private_key(content.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFormatError("it is no private key in PEM without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFormatError("it is a private key, but not of Ed25519")
        return cls(key)

    @property
    def public(self) -> str:
        """The public half, as base64."""
        return base64.b64encode(_raw(self._key.public_key())).decode()

    def sign(self, message: bytes) -> bytes:
        """Sign."""
        return self._key.sign(message)

    def write(self, file: Path) -> None:
        """Write both halves: the private one for its owner's eyes only, and `<file>.pub`.

        Raises:
            FileExistsError: there is a key already; a new one in its place would make old signatures worthless.
        """
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(pem)
        file.with_name(f"{file.name}.pub").write_text(f"{self.public}\n")


class PublicKeys:
    """The keys that are trusted, by their ids."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys = {key_id(key): key for key in keys}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> PublicKeys:
        """Read keys: PEM, the base64 of their 32 bytes, or the paths of files with either.

        Raises:
            KeyFormatError: one is none.
        """
        return cls(_public(_content(text)) for text in texts)

    @property
    def ids(self) -> list[str]:
        """The names of the keys."""
        return list(self._keys)

    def verify(self, by: str, signature: bytes, message: bytes) -> bool:
        """Whether a signature is by the key with an id, and that key is trusted."""
        key = self._keys.get(by)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _public(content: str) -> Ed25519PublicKey:
    if not content.startswith(_PEM):
        return Ed25519PublicKey.from_public_bytes(_decoded(content))
    try:
        key = load_pem_public_key(content.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError("it is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFormatError("it is a public key, but not of Ed25519")
    return key


def _content(text: str) -> str:
    """The key itself, where a text is the path of a file."""
    text = text.strip()
    if text.startswith(_PEM) or len(text) > _LONGEST_PATH:
        return text
    try:
        return Path(text).read_text().strip()
    except FileNotFoundError:
        return text
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFormatError(f"the file {text} cannot be read: {error}") from error


def _decoded(content: str) -> bytes:
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != 32:
        # The text is not told: a private key must not get into a log because a character of it is missing.
        raise KeyFormatError("it is neither PEM, nor the base64 of 32 bytes, nor the path of a file that is there")
    return decoded


def _raw(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
