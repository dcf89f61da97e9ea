"""Tokens, roles, permissions and ownership."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import ErrorCode, RejectedError
from assessmentstore.web.auth import Authenticator, Permission, Role, User, check_owner, mint_token

SECRET = "a secret that is long enough for HS256, and for HS512 where that is tried"
HOUR = timedelta(hours=1)
ON_ASSESSMENTS = {item for item in Permission if item.endswith(":assessment")}


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return "Bearer " + jwt.encode({"exp": datetime.now(UTC) + HOUR, **claims}, secret, algorithm)


def user_of(authorization: str | None) -> User:
    return asyncio.run(Authenticator(SECRET).user(authorization))


def refusal(authorization: str | None) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        user_of(authorization)
    return caught.value


def record(owner: str | None) -> AssessmentRecord:
    now = datetime.now(UTC)
    return AssessmentRecord(
        assessment_id="a-1",
        state=AssessmentState.PENDING,
        version=1,
        created_at=now,
        updated_at=now,
        request_data={} if owner is None else {"userId": owner},
    )


def test_a_minted_token_speaks_for_its_user_and_roles() -> None:
    minted = mint_token(SECRET, "ann", [Role.ADMIN], HOUR)

    user = user_of(f"Bearer {minted}")

    assert user.id == "ann"
    assert user.roles == {Role.ADMIN}


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer nonsense",
        "Basic YTpi",
        "Bearer ",
        token("another-secret-that-is-long-enough!!", sub="ann"),
        token(sub="ann", exp=datetime.now(UTC) - timedelta(seconds=1)),
        token(sub="ann", nbf=datetime.now(UTC) + HOUR),
        token(algorithm="HS512", sub="ann"),
        token(secret="", algorithm="none", sub="ann"),
        token(sub=""),
        token(sub=7),
        token(sub="x" * 256),
        token(sub="a\x00b"),
        token(sub="a\ud800"),
        token(sub="ann", exp=float("inf")),
        token(sub="ann", exp=10**400),
        token(sub="ann", nbf=float("inf")),
        token(sub="ann", iat=float("inf")),
        token(),
        token(sub="ann", roles=7),
        token(sub="ann", roles=[{}]),
        token(sub="ann", permissions={"all": True}),
    ],
    ids=itertools.count(),  # tokens have the time in them, and the processes of a run have to agree on names
)
def test_a_token_that_is_not_valid_is_refused_with_one_message(authorization: str) -> None:
    error = refusal(authorization)

    assert error.rejection.code is ErrorCode.UNAUTHENTICATED
    assert error.rejection.message == "Invalid or expired token"


def test_a_token_without_expiry_is_refused() -> None:
    eternal = jwt.encode({"sub": "ann"}, SECRET, "HS256")

    assert refusal(f"Bearer {eternal}").rejection.message == "Invalid or expired token"


async def test_a_token_is_verified_once_and_ends_on_its_second_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    door, now = Authenticator(SECRET), time.time()
    text = token(sub="ann", exp=int(now) + 60)
    first = await door.user(text)
    monkeypatch.setattr(jwt, "decode", None)

    assert await door.user(text) == first

    monkeypatch.setattr(time, "time", lambda: int(now) + 60.0)
    with pytest.raises(RejectedError, match="Invalid or expired token"):
        await door.user(text)


def test_no_token_at_all_is_told_what_to_send() -> None:
    assert "Authorization: Bearer" in refusal(None).rejection.message


def test_the_user_may_stand_in_sub_or_in_user_id() -> None:
    assert user_of(token(sub="ann", userId="bob")).id == "ann"
    assert user_of(token(userId="bob")).id == "bob"


@pytest.mark.parametrize(
    ("claims", "permissions"),
    [
        ({}, ON_ASSESSMENTS | {Permission.WEBHOOKS}),
        ({"role": "USER"}, ON_ASSESSMENTS | {Permission.WEBHOOKS}),
        ({"roles": ["ADMIN"]}, set(Permission)),
        ({"role": "HUMAN_OVERSIGHT"}, {Permission.VIEW, Permission.CANCEL, Permission.RETRY}),
        ({"role": "STRANGER"}, set()),
        ({"roles": []}, set()),
        ({"roles": ["STRANGER", "HUMAN_OVERSIGHT"]}, {Permission.VIEW, Permission.CANCEL, Permission.RETRY}),
        ({"role": "ADMIN", "permissions": ["view:assessment"]}, {Permission.VIEW}),
        ({"role": "ADMIN", "permissions": []}, set()),
    ],
)
def test_permissions_come_from_the_roles_unless_the_token_lists_its_own(
    claims: dict[str, Any], permissions: set[str]
) -> None:
    assert user_of(token(sub="ann", **claims)).permissions == permissions


@pytest.mark.parametrize(
    ("claims", "owner", "allowed"),
    [
        ({"role": "USER"}, "ann", True),
        ({"role": "USER"}, "bob", False),
        ({"role": "USER"}, None, False),
        ({"role": "ADMIN"}, "bob", True),
        ({"role": "HUMAN_OVERSIGHT"}, "bob", True),
        ({"role": "admin"}, "bob", False),
    ],
)
def test_an_assessment_is_its_owners_and_the_overseers(
    claims: dict[str, Any], owner: str | None, allowed: bool
) -> None:
    user = user_of(token(sub="ann", **claims))

    if allowed:
        check_owner(user, record(owner))
    else:
        with pytest.raises(RejectedError) as caught:
            check_owner(user, record(owner))
        assert caught.value.rejection.code is ErrorCode.FORBIDDEN
