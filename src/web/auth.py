"""Who asks, and what he may do: bearer tokens, roles, permissions and ownership."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import jwt
from aiohttp import web
from structlog.contextvars import bind_contextvars

from ..models.assessment import AssessmentRecord
from ..models.base import MAX_ID_LENGTH
from ..models.errors import ErrorCode, RejectedError, Rejection

logger = logging.getLogger(__name__)

# The one algorithm that is taken, whatever a token's header says.
_ALGORITHM = "HS256"

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
    MAINTAIN = "maintain:store"
    """Delete what ended long ago, whoever owns it."""


PERMISSIONS: Mapping[str, frozenset[str]] = {
    Role.USER: frozenset(Permission) - {Permission.MAINTAIN},
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
    expires_at: int
    """The end of the token, in seconds since 1970."""

    def owns(self, record: AssessmentRecord) -> bool:
        """Whether an assessment is this user's business."""
        return record.owner == self.id or self.sees_everything

    @property
    def sees_everything(self) -> bool:
        """Whether everybody's assessments are this user's business."""
        return not self.roles.isdisjoint(_SEE_EVERYTHING)


class Authenticator:
    """Read bearer tokens that one shared secret signs."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def user(self, authorization: str | None) -> User:
        """The user of an `Authorization` header.

        Raises:
            RejectedError: UNAUTHENTICATED, there is no token or it is not valid.
        """
        if not authorization:
            raise _unauthenticated("A bearer token is required: send Authorization: Bearer <token>")
        match = _BEARER.fullmatch(authorization.strip())
        if match is None:
            raise _unauthenticated("Invalid or expired token")
        try:
            claims = jwt.decode(match[1], self._secret, algorithms=[_ALGORITHM], options={"require": ["exp"]})
            return _user(claims)
        except (jwt.InvalidTokenError, ValueError) as error:
            logger.info("A token was refused: %s", error, extra={"action": "token_refused"})
            raise _unauthenticated("Invalid or expired token") from error


AUTHENTICATOR = web.AppKey("authenticator", Authenticator)


def authorize(request: web.Request, permission: Permission) -> User:
    """The user of a request, who has a permission.

    Raises:
        RejectedError: UNAUTHENTICATED or FORBIDDEN.
    """
    user = request.app[AUTHENTICATOR].user(request.headers.get("Authorization"))
    bind_contextvars(user_id=user.id)
    if permission not in user.permissions:
        raise RejectedError(Rejection(ErrorCode.FORBIDDEN, f"The permission {permission} is required"))
    return user


def check_owner(user: User, record: AssessmentRecord) -> None:
    """Let nobody near an assessment of somebody else.

    Raises:
        RejectedError: FORBIDDEN.
    """
    if not user.owns(record):
        words = f"Assessment {record.assessment_id} belongs to another user"
        raise RejectedError(Rejection(ErrorCode.FORBIDDEN, words), assessment_id=record.assessment_id)


def mint_token(secret: str, user: str, roles: Collection[Role], lifetime: timedelta) -> str:
    """Sign a token for development."""
    now = datetime.now(UTC)
    claims = {"sub": user, "roles": [str(role) for role in roles], "iat": now, "exp": now + lifetime}
    return jwt.encode(claims, secret, algorithm=_ALGORITHM)


def _unauthenticated(message: str) -> RejectedError:
    return RejectedError(Rejection(ErrorCode.UNAUTHENTICATED, message))


def _user(claims: Mapping[str, Any]) -> User:
    """The user that verified claims speak of; ValueError where they speak of none."""
    user_id = claims.get("sub") or claims.get("userId")
    if not isinstance(user_id, str) or not user_id or len(user_id) > MAX_ID_LENGTH or "\x00" in user_id:
        raise ValueError(f"neither sub nor userId is a text of 1 to {MAX_ID_LENGTH} characters")
    roles = _names(claims, "roles") | _names(claims, "role")
    if "roles" not in claims and "role" not in claims:
        roles = frozenset({Role.USER})
    defaults = frozenset[str]().union(*(PERMISSIONS.get(role, frozenset()) for role in roles))
    permissions = _names(claims, "permissions") if "permissions" in claims else defaults
    return User(user_id, roles, permissions, int(claims["exp"]))


def _names(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """A claim that is one name or a list of names."""
    value = claims.get(claim, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the claim {claim} is neither a text nor a list of texts")
    return frozenset(names)
