"""Tokens of an issuer whose keys rotate, vanish and make no sense, and the attacks on such tokens."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.harness.waiting import eventually

from assessmentstore.models.errors import ErrorCode, RejectedError, UnavailableError
from assessmentstore.web import jwks
from assessmentstore.web.auth import Authenticator, User
from assessmentstore.web.jwks import KeySet

SECRET = "a secret that is long enough for HS256, or so they say"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is what it is for
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
ED = ed25519.Ed25519PrivateKey.generate()

_JWK: dict[type, Callable[[Any], str]] = {
    rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm.to_jwk,
    ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm.to_jwk,
    ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm.to_jwk,
}


def public(key: Any, kid: str | None = None, **members: Any) -> dict[str, Any]:
    to_jwk = next(convert for kind, convert in _JWK.items() if isinstance(key, kind))
    item: dict[str, Any] = json.loads(to_jwk(key.public_key()))
    item.pop("key_ops", None)
    return item | ({} if kid is None else {"kid": kid}) | members


class Issuer:
    """A server of keys that can be told to misbehave."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[Any] = [public(RSA, "one")]
        self.body: bytes | None = None
        self.status = 200
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.asked = 0

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.hangs.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return web.Response(body=body, status=self.status, headers={"Location": "/keys"})


pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Issuer]:
    """The issuer; whoever asks again may do so at once."""
    monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
    made = Issuer()
    app = web.Application()
    app.router.add_get("/keys", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/keys"))
        yield made


@pytest.fixture
def keys(issuer: Issuer) -> KeySet:
    return KeySet(issuer.url)


@pytest.fixture
def door(keys: KeySet) -> Authenticator:
    return Authenticator(SECRET, keys)


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    claims = {"sub": "ann", "exp": time.time() + 60} | claims
    return jwt.encode(claims, key, algorithm, headers=None if kid is None else {"kid": kid})


def forged(header: dict[str, Any], signature: bytes = b"") -> str:
    """A token whose header and signature are whatever one likes."""
    parts = [json.dumps(header).encode(), json.dumps({"sub": "ann", "exp": time.time() + 60}).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def accepted(door: Authenticator, text: str) -> bool:
    try:
        return (await door.user(f"Bearer {text}")).id == "ann"
    except RejectedError as error:
        assert error.rejection.code is ErrorCode.UNAUTHENTICATED
        return False


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (RSA, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]),
        (P256, ["ES256"]),
        (P384, ["ES384"]),
        (P521, ["ES512"]),
        (ED, ["EdDSA"]),
    ],
)
async def test_each_kind_of_key_verifies_by_its_own_algorithms(
    issuer: Issuer, door: Authenticator, key: Any, algorithms: list[str]
) -> None:
    issuer.keys = [public(key, "one")]

    assert all([await accepted(door, token(key, algorithm)) for algorithm in algorithms])


async def test_the_secret_is_believed_beside_the_issuer(door: Authenticator) -> None:
    assert await accepted(door, token(SECRET, "HS256"))
    assert await accepted(door, token())


async def test_a_key_is_used_for_nothing_but_what_it_says_it_is_for(issuer: Issuer, door: Authenticator) -> None:
    issuer.keys = [
        public(RSA, "one", alg="PS256"),
        public(RSA, "encrypts", use="enc"),
        public(RSA, "signs", key_ops=["sign"]),
        public(SHORT_RSA, "short"),
        {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "alg": "HS256"},
        {"kty": "EC", "kid": "odd", "crv": "secp256k1"},
        {"kty": "RSA", "kid": "empty"},
        {"kid": 7, "kty": "RSA"},
        "no key",
        None,
    ]

    assert await accepted(door, token(algorithm="PS256"))
    for kid in ("one", "encrypts", "signs"):
        assert not await accepted(door, token(kid=kid))
    assert not await accepted(door, token(SHORT_RSA, kid="short"))
    assert not await accepted(door, token("x" * 32, "HS256", kid="shared"))


async def test_no_header_talks_the_door_into_another_algorithm(issuer: Issuer, door: Authenticator) -> None:
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    message = forged({"alg": "HS256", "kid": "one"}).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(message.encode(), pem)
    confused = f"{message}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    issuer.keys = [public(RSA, "one"), public(P256, "two")]

    assert not await accepted(door, confused)
    assert not await accepted(door, token(SECRET, "HS512"))
    assert not await accepted(door, token(P256, "ES256", kid="one"))
    assert not await accepted(door, token(RSA, "RS256", kid="two"))
    for algorithm in ("none", "None", "NONE", "", None, 7, ["RS256"], {"alg": "RS256"}, "HS256", "RS256"):
        assert not await accepted(door, forged({"alg": algorithm, "kid": "one"}))
    own: list[dict[str, Any]] = [{"jwk": public(OTHER_RSA)}, {"jku": "http://127.0.0.1:1/"}, {}]
    for headers in own:
        claims = {"sub": "ann", "exp": time.time() + 60}
        assert not await accepted(door, jwt.encode(claims, OTHER_RSA, "RS256", headers={"kid": "one"} | headers))
    kids: list[Any] = [["one"], {}, 7, None]
    for kid in kids:
        assert not await accepted(door, forged({"alg": "RS256", "kid": kid}))


async def test_a_critical_extension_that_nobody_knows_is_refused(door: Authenticator) -> None:
    claims = {"sub": "ann", "exp": time.time() + 60}

    assert not await accepted(door, jwt.encode(claims, RSA, "RS256", headers={"kid": "one", "crit": ["x"], "x": 1}))


async def test_without_a_key_id_one_key_is_clear_and_two_are_not(issuer: Issuer, door: Authenticator) -> None:
    assert await accepted(door, token(kid=None))

    issuer.keys = [public(RSA, "one"), public(OTHER_RSA, "two")]
    assert await accepted(door, token(OTHER_RSA, kid="two"))
    assert not await accepted(door, token(kid=None))


async def test_times_count_and_clocks_may_differ_a_little(door: Authenticator) -> None:
    now = time.time()

    assert await accepted(door, token(iat=now + 3, nbf=now + 3))
    assert not await accepted(door, token(iat=now + 60))
    assert not await accepted(door, token(nbf=now + 60))
    assert not await accepted(door, token(exp=now - 0.5))
    odds: list[Any] = [None, "soon", [], float("inf"), float("nan"), -(10**400)]
    for odd in odds:
        assert not await accepted(door, token(exp=odd))


async def test_issuer_and_audience_count_where_they_are_set(keys: KeySet) -> None:
    strict = Authenticator("", keys, issuer="https://issuer.example", audience="store")
    right: dict[str, Any] = {"iss": "https://issuer.example", "aud": ["store", "shop"]}

    assert await accepted(strict, token(**right))
    assert not await accepted(strict, token())
    assert not await accepted(strict, token(**right | {"iss": "https://issuer.example.org"}))
    assert not await accepted(strict, token(**right | {"aud": "shop"}))
    assert not await accepted(strict, token(iss=right["iss"]))
    assert await accepted(Authenticator("", keys), token(aud="somebody"))


async def test_a_new_key_is_found_and_an_old_one_forgotten(issuer: Issuer, door: Authenticator) -> None:
    old = token(exp=time.time() + 3600)
    assert await accepted(door, old)

    issuer.keys = [public(OTHER_RSA, "two")]
    assert await accepted(door, old)  # still kept
    assert await accepted(door, token(OTHER_RSA, kid="two"))
    assert not await accepted(door, old)
    assert not await accepted(door, token())


async def test_a_key_that_took_the_place_of_another_does_not_vouch_for_its_tokens(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer, door: Authenticator
) -> None:
    old = token(exp=time.time() + 3600)
    assert await accepted(door, old)
    issuer.keys = [public(OTHER_RSA, "one")]
    monkeypatch.setattr(jwks, "_LIFETIME_SECONDS", 0.0)

    async def refused() -> bool:
        return not await accepted(door, old)

    await eventually(refused, "a token of the key that had this id before")


async def test_a_withdrawn_key_ends_with_its_lifetime(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer, door: Authenticator
) -> None:
    old = token(exp=time.time() + 3600)
    assert await accepted(door, old)
    issuer.keys = []
    monkeypatch.setattr(jwks, "_LIFETIME_SECONDS", 0.0)

    async def refused() -> bool:
        return not await accepted(door, old)

    await eventually(refused, "the withdrawn key is refused")


async def test_made_up_key_ids_do_not_hammer_the_issuer(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer, door: Authenticator
) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 60.0)

    assert await accepted(door, token())
    answers = await asyncio.gather(*(accepted(door, token(kid=f"made-up-{number}")) for number in range(50)))

    assert not any(answers)
    assert issuer.asked == 1


async def test_many_who_need_the_keys_ask_once(issuer: Issuer, door: Authenticator) -> None:
    issuer.hangs.clear()
    asking = [asyncio.create_task(accepted(door, token())) for _ in range(20)]
    impatient = asyncio.create_task(accepted(door, token()))
    await asyncio.sleep(0)
    impatient.cancel()
    issuer.hangs.set()

    assert all(await asyncio.gather(*asking))
    assert issuer.asked == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (302, None),
        (404, b"{}"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": {}}'),
        (200, b"\xff"),
        (200, b'{"keys": [' + b" " * 2_000_000 + b"]}"),
    ],
)
async def test_an_issuer_that_serves_junk_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer, door: Authenticator, status: int, body: bytes | None
) -> None:
    assert await accepted(door, token())
    issuer.status, issuer.body = status, body
    monkeypatch.setattr(jwks, "_LIFETIME_SECONDS", 0.0)

    assert not await accepted(door, token(kid="two"))  # this one had to be asked for
    assert issuer.asked >= 2
    assert await accepted(door, token())


async def test_without_the_issuer_old_keys_do_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/keys", issuer.answer)
    async with TestServer(app) as server:
        door = Authenticator("", KeySet(str(server.make_url("/keys"))))
        assert await accepted(door, token())
    monkeypatch.setattr(jwks, "_LIFETIME_SECONDS", 0.0)

    assert await accepted(door, token())
    monkeypatch.setattr(jwks, "_LONGEST_STALE_SECONDS", 0.0)
    with pytest.raises(UnavailableError):
        await accepted(door, token())


def jwks_failures() -> float:
    return REGISTRY.get_sample_value("assessmentstore_errors_total", {"error_type": "jwks_failed"}) or 0.0


async def test_an_issuer_that_was_never_there_is_no_fault_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
    door = Authenticator(SECRET, KeySet("http://127.0.0.1:1/keys"))
    before = jwks_failures()

    with pytest.raises(UnavailableError):
        await accepted(door, token())
    assert jwks_failures() > before
    assert await accepted(door, token(SECRET, "HS256"))
    assert not await accepted(door, "nonsense")


VALID = token(SECRET, "HS256", roles=["USER"])


@given(st.integers(0, len(VALID) - 1), st.text(max_size=3), st.integers(0, 3))
@example(0, "", 0)
def test_a_mangled_token_is_somebodys_or_nobodys_and_never_an_accident(at: int, put: str, cut: int) -> None:
    mangled = VALID[:at] + put + VALID[at + cut :]

    try:
        user = asyncio.run(Authenticator(SECRET).user(f"Bearer {mangled}"))
    except RejectedError as error:
        assert error.rejection.code is ErrorCode.UNAUTHENTICATED
    else:
        assert user.id == "ann"


CLAIMS = ["sub", "userId", "exp", "nbf", "iat", "role", "roles", "permissions", "aud"]
JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "userId", "exp", "nbf", "iat", "role", "roles", "permissions", "aud"]), JSON
    )
)
def test_signed_claims_of_any_kind_are_somebodys_or_nobodys(claims: dict[str, Any]) -> None:
    signed = jwt.api_jws.encode(json.dumps(claims).encode(), SECRET, "HS256")

    try:
        user = asyncio.run(Authenticator(SECRET).user(f"Bearer {signed}"))
    except RejectedError as error:
        assert error.rejection.code is ErrorCode.UNAUTHENTICATED
    else:
        assert isinstance(user, User)
        assert user.id
