"""The public keys of an issuer of tokens (JWKS, RFC 7517): fetched, kept for a while, fetched anew as they rotate."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ..models.errors import UnavailableError
from ..telemetry import ERRORS

logger = logging.getLogger(__name__)

# A key that the issuer withdraws is believed for this long at the most, while the issuer answers.
_LIFETIME_SECONDS = 300.0

# A made-up key id costs the issuer one request in this time, however many tokens carry one.
_PAUSE_SECONDS = 5.0

# While the issuer is away its last keys stand in; after a day nobody can know what was withdrawn meanwhile.
_LONGEST_STALE_SECONDS = 86_400.0

_FETCH_SECONDS = 5.0
_LARGEST_SET = 1024 * 1024
_SMALLEST_RSA_BITS = 2048

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}

# A set that gives away its private half is read all the same, but only by its public half.
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that verifies signatures, and the algorithms that it may be used with."""

    kid: str | None
    key: Any
    algorithms: frozenset[str]


class KeySet:
    """The keys of one URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._told = ""

    async def find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        """The key that a token names, or the only one that fits where it names none.

        Raises:
            UnavailableError: the issuer is away, and no keys of his are known.
        """
        key = self._find(kid, algorithm)
        if key is None or self._age > _LONGEST_STALE_SECONDS:
            await self._refresh()
            key = self._find(kid, algorithm)
        elif self._age > _LIFETIME_SECONDS:
            self._begin()  # the known keys do meanwhile
        if self._age > _LONGEST_STALE_SECONDS:
            raise UnavailableError("Issuer of tokens does not answer, and its keys are not known")
        return key

    @property
    def _age(self) -> float:
        return time.monotonic() - self._fetched

    def _find(self, kid: str | None, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
        return fitting[0] if len(fitting) == 1 else None

    async def _refresh(self) -> None:
        self._begin()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _begin(self) -> None:
        """Fetch, unless somebody does just now, or did a moment ago."""
        if self._fetching is not None and not self._fetching.done():
            return
        if time.monotonic() - self._tried < _PAUSE_SECONDS:
            self._fetching = None
            return
        self._tried = time.monotonic()
        self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            self._keys = tuple(_read(await self._download()))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._tell(f"its keys cannot be had: {error!r}")
            return
        self._fetched = time.monotonic()
        self._tell("" if self._keys else "it has no key that can verify a token")

    async def _download(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            # A redirect could lead from https to whoever likes to be the issuer.
            session.get(self._url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            content = bytearray()
            async for chunk in answer.content.iter_chunked(65_536):
                content += chunk
                if len(content) > _LARGEST_SET:
                    raise ValueError(f"more than {_LARGEST_SET} bytes")
        return bytes(content)

    def _tell(self, trouble: str) -> None:
        """Tell the operator of changes, not of every attempt; count every one that fails."""
        if trouble:
            ERRORS.labels("jwks_failed").inc()
        if trouble and trouble != self._told:
            logger.warning("The issuer at %s: %s", self._url, trouble, extra={"action": "jwks_failed"})
        elif self._told and not trouble:
            logger.info("The issuer at %s is well again", self._url, extra={"action": "jwks_recovered"})
        self._told = trouble


def _read(content: bytes) -> Iterator[PublicKey]:
    """The keys of a set that verify signatures; what is for something else, or unknown, is left out.

    Raises:
        ValueError: it is no set of keys.
    """
    document = orjson.loads(content)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("the answer is no set of keys")  # noqa: TRY004 - not about a type of ours
    for item in keys:
        key = _key(item) if isinstance(item, dict) else None
        if key is not None:
            yield key


def _key(item: Mapping[str, Any]) -> PublicKey | None:
    algorithms = _algorithms(item)
    kid = item.get("kid")
    if not algorithms or not (kid is None or isinstance(kid, str)):
        return None
    public = {name: value for name, value in item.items() if name not in _PRIVATE}
    try:
        key = jwt.PyJWK(public, algorithm=min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        logger.warning("A key of the issuer makes no sense: %r", error, extra={"action": "jwks_key_ignored"})
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _SMALLEST_RSA_BITS:
        logger.warning("A key of the issuer is too short: %s", kid, extra={"action": "jwks_key_ignored"})
        return None
    return PublicKey(kid, key, algorithms)


def _algorithms(item: Mapping[str, Any]) -> frozenset[str]:
    """What a key may verify: by its kind, narrowed by what it says itself; nothing that is symmetric."""
    operations = item.get("key_ops", ["verify"])
    if item.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return frozenset()
    kind, curve = item.get("kty"), item.get("crv")
    possible = frozenset[str]()
    if kind == "RSA":
        possible = _RSA
    elif kind == "EC" and isinstance(curve, str) and curve in _CURVES:
        possible = frozenset({_CURVES[curve]})
    elif kind == "OKP" and curve == "Ed25519":
        possible = frozenset({"EdDSA"})
    stated = item.get("alg")
    return possible if stated is None else possible & {str(stated)}
