"""Who asks, and what he may do: bearer tokens, roles, permissions and ownership.

A token is signed with the shared secret (HS256 and nothing else) or with a key of the issuer (JWKS), by an algorithm
that the key itself allows; what the token's header says chooses among these, and never widens them (RFC 8725).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

import jwt
from aiohttp import web
from cachetools import LRUCache

from ..models.assessment import AssessmentRecord
from ..models.base import MAX_ID_LENGTH
from ..models.errors import ErrorCode, RejectedError, Rejection
from ..settings import Settings, SettingsError
from .jwks import KeySet

logger = logging.getLogger(__name__)

# The one algorithm that goes with the shared secret.
_ALGORITHM = "HS256"

# Clocks differ a little: a token that was made a moment ago is no token of the future. It ends on the second.
_LEEWAY_SECONDS = 5

_INVALID = "Invalid or expired token"

# Clients send a token many times; to verify it again would be a sixth of what a read costs.
_REMEMBERED = 10_000

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class Role(StrEnum):
    """The roles that a token may name."""

    USER = "USER"
    ADMIN = "ADMIN"
    HUMAN_OVERSIGHT = "HUMAN_OVERSIGHT"


class Permission(StrEnum):
    """What a route asks for; a token may list them itself."""

    CREATE = "create:assessment"
    VIEW = "view:assessment"
    UPDATE = "update:assessment"
    """Start, report progress, complete, fail."""
    CANCEL = "cancel:assessment"
    RETRY = "retry:assessment"
    WEBHOOKS = "manage:webhooks"
    """Register webhooks, and see to one's own."""
    MAINTAIN = "maintain:store"
    """Delete what ended long ago, whoever owns it."""
    MIGRATE = "migrate:store"
    """Steer the migration from the old system."""


_ON_ASSESSMENTS = frozenset(
    {Permission.CREATE, Permission.VIEW, Permission.UPDATE, Permission.CANCEL, Permission.RETRY}
)

PERMISSIONS: Mapping[str, frozenset[str]] = {
    Role.USER: _ON_ASSESSMENTS | {Permission.WEBHOOKS},
    Role.ADMIN: frozenset(Permission),
    # Oversight watches, stops and sends back; it neither orders assessments nor reports on them.
    Role.HUMAN_OVERSIGHT: frozenset({Permission.VIEW, Permission.CANCEL, Permission.RETRY}),
}
"""What each role may do where the token lists no permissions of its own."""

_SEE_EVERYTHING = frozenset({Role.ADMIN, Role.HUMAN_OVERSIGHT})


@dataclass(frozen=True, slots=True)
class User:
    """Whoever a valid token speaks for."""

    id: str
    roles: frozenset[str]
    permissions: frozenset[str]
    expires_at: float
    """The end of the token, in seconds since 1970."""

    @property
    def sees_everything(self) -> bool:
        """Whether assessments of others are this user's business too."""
        return not self.roles.isdisjoint(_SEE_EVERYTHING)

    @property
    def scope(self) -> str | None:
        """Whose assessments this user sees: the owner, or nothing for everybody's."""
        return None if self.sees_everything else self.id

    def sees(self, owner: str | None) -> bool:
        """Whether the assessments of an owner are this user's business."""
        return self.scope in (None, owner)


class _Verified(NamedTuple):
    """A token that was verified: it is so as long as the same key goes with what it says of itself."""

    user: User
    algorithm: object
    kid: object
    key: Any


class Authenticator:
    """Read bearer tokens that one shared secret signs, or one of an issuer's keys."""

    def __init__(
        self,
        secret: str = "",
        keys: KeySet | None = None,
        *,
        issuer: str | None = None,
        audience: str | None = None,
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._verified: LRUCache[bytes, _Verified] = LRUCache(_REMEMBERED)

    @classmethod
    def of(cls, settings: Settings) -> Authenticator | None:
        """What the settings ask for; nothing where they name neither a secret nor an issuer."""
        secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""
        keys = KeySet(settings.jwks_url) if settings.jwks_url else None
        if not secret and keys is None:
            return None
        return cls(secret, keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    async def user(self, authorization: str | None) -> User:
        """The user of an `Authorization` header.

        Raises:
            RejectedError: UNAUTHENTICATED, there is no token or it is not valid.
            UnavailableError: the issuer's keys are not known.
        """
        if not authorization:
            raise _unauthenticated("A bearer token is required: send Authorization: Bearer <token>")
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            raise _unauthenticated(_INVALID)
        try:
            return await self._verify(match[1])
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            logger.info("A token was refused: %s", error, extra={"action": "token_refused"})
            raise _unauthenticated(_INVALID) from error

    async def _verify(self, token: str) -> User:
        """The user of a token, which is verified once, and anew where its key has changed."""
        digest = sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and await self._key(known.algorithm, known.kid) is known.key:
            _check_expiry(known.user.expires_at)
            return known.user
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        key = await self._key(algorithm, kid)
        claims = self._claims(token, str(algorithm), key)
        _check_expiry(claims["exp"])
        user = _user(claims)
        self._verified[digest] = _Verified(user, algorithm, kid, key)
        return user

    def _claims(self, token: str, algorithm: str, key: Any) -> Mapping[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            leeway=_LEEWAY_SECONDS,
            issuer=self._issuer,
            audience=self._audience,
            options={"require": self._required, "verify_aud": self._audience is not None},
        )
        return claims

    @property
    def _required(self) -> list[str]:
        wanted = {"exp": True, "iss": self._issuer is not None, "aud": self._audience is not None}
        return [claim for claim, is_wanted in wanted.items() if is_wanted]

    async def _key(self, algorithm: object, kid: object) -> Any:
        """What verifies a token that says so of itself."""
        if algorithm == _ALGORITHM and self._secret:
            return self._secret
        # An issuer's keys are public: none of them ever goes with an algorithm that takes a shared secret.
        key = None
        if self._keys is not None and isinstance(algorithm, str) and (kid is None or isinstance(kid, str)):
            key = await self._keys.find(kid, algorithm)
        if key is None:
            raise jwt.InvalidKeyError(f"no key with the id {kid!r} goes with the algorithm {algorithm!r}")
        return key.key


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)

USER = web.RequestKey("user", User)
"""Whom the door let in; `admission.py` puts it there."""


def required_authenticator(settings: Settings) -> Authenticator:
    """The authenticator of the settings.

    Raises:
        SettingsError: there is none.
    """
    authenticator = Authenticator.of(settings)
    if authenticator is None:
        raise SettingsError(
            "ASSESSMENTSTORE_JWT_SECRET, ASSESSMENTSTORE_JWKS_URL: neither is set; the web needs the secret that signs"
            " tokens, or the URL of the issuer's public keys"
        )
    return authenticator


def authorize(request: web.Request, permission: Permission) -> User:
    """The user of a request, who has a permission.

    Raises:
        RejectedError: FORBIDDEN.
    """
    user = request[USER]
    if permission not in user.permissions:
        raise RejectedError(Rejection(ErrorCode.FORBIDDEN, f"The permission {permission} is required"))
    return user


def check_owner(user: User, record: AssessmentRecord) -> None:
    """Let nobody near an assessment of somebody else.

    Raises:
        RejectedError: FORBIDDEN.
    """
    if not user.sees(record.owner):
        raise RejectedError(foreign(record.assessment_id), assessment_id=record.assessment_id)


def foreign(assessment_id: str) -> Rejection:
    """An assessment is not the user's business."""
    return Rejection(ErrorCode.FORBIDDEN, f"Assessment {assessment_id} belongs to another user")


def mint_token(
    secret: str,
    user: str,
    roles: Collection[Role],
    lifetime: timedelta,
    *,
    permissions: Collection[str] = (),
    issuer: str | None = None,
    audience: str | None = None,
) -> str:
    """Sign a token for development; permissions, where there are any, take the place of those of the roles."""
    now = datetime.now(UTC)
    claims: dict[str, Any] = {"sub": user, "roles": [str(role) for role in roles], "iat": now, "exp": now + lifetime}
    optional = {"permissions": list(permissions) or None, "iss": issuer, "aud": audience}
    claims |= {name: value for name, value in optional.items() if value is not None}
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _check_expiry(expires_at: float) -> None:
    if expires_at <= time.time():
        raise jwt.ExpiredSignatureError("the token has expired")


def _unauthenticated(message: str) -> RejectedError:
    return RejectedError(Rejection(ErrorCode.UNAUTHENTICATED, message))


def _user(claims: Mapping[str, Any]) -> User:
    """The user that verified claims speak of; ValueError where they speak of none."""
    user_id = claims.get("sub") or claims.get("userId")
    if not isinstance(user_id, str) or not user_id or len(user_id) > MAX_ID_LENGTH or "\x00" in user_id:
        raise ValueError(f"neither sub nor userId is a text of 1 to {MAX_ID_LENGTH} characters")
    user_id.encode()  # half a surrogate pair can be neither stored nor sent
    roles = _names(claims, "roles") | _names(claims, "role")
    if "roles" not in claims and "role" not in claims:
        roles = frozenset({Role.USER})
    defaults = frozenset[str]().union(*(PERMISSIONS.get(role, frozenset()) for role in roles))
    permissions = _names(claims, "permissions") if "permissions" in claims else defaults
    return User(user_id, roles, permissions, float(claims["exp"]))


def _names(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """A claim that is one name or a list of names."""
    value = claims.get(claim, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the claim {claim} is neither a text nor a list of texts")
    return frozenset(names)
