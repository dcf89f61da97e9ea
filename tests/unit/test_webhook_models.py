"""Messages of webhooks: their signatures, and where they may go."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from assessmentstore.models.targets import ForbiddenTargetError, Targets
from assessmentstore.models.webhooks import message, message_id, new_secret, signed_headers

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
HOOK = UUID("6a4ff2c2-0000-4000-8000-000000000001")


def test_a_signature_is_that_of_the_specification() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)

    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(body=st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53)).map(orjson.dumps))
def test_the_library_of_the_standard_believes_either_secret_and_no_other(body: bytes) -> None:
    new, former = new_secret(), new_secret()

    headers = dict(signed_headers("msg_1", body, datetime.now(UTC), [new, former]))

    for secret in (new, former):
        assert Webhook(secret).verify(body, headers) == orjson.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


def test_an_id_is_one_for_each_webhook_and_event() -> None:
    told = message_id(HOOK, "a:1", 2, NOW)

    assert told == message_id(HOOK, "a:1", 2, NOW)
    assert told.isascii()
    others = [(uuid4(), "a:1", 2, NOW), (HOOK, "a", 2, NOW), (HOOK, "a:1", 3, NOW), (HOOK, "a:1", 2, datetime.now(UTC))]
    assert told not in {message_id(*other) for other in others}


def test_a_message_tells_the_event_and_not_where_its_caller_was() -> None:
    event = {"type": "assessment.failed", "occurredAt": "2026-01-31T12:00:00Z", "error": "x", "userId": "ann"}

    body = orjson.loads(message(event | {"ipAddress": "10.0.0.1", "userAgent": "curl"}))

    assert body == {"type": "assessment.failed", "timestamp": "2026-01-31T12:00:00Z", "data": event}


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1", "2002:0a00:0001::", "64:ff9b::a00:1", "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1", "2001:db8::1", "fec0::1", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)  # fmt: skip
def test_no_address_that_is_not_public_may_be_reached(address: str) -> None:
    with pytest.raises(ForbiddenTargetError, match="is no public address"):
        Targets().check_address(ip_address(address), "https")


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_a_public_address_may_be_reached_by_https_alone(address: str) -> None:
    Targets().check_address(ip_address(address), "https")
    with pytest.raises(ForbiddenTargetError, match="by https only"):
        Targets([ip_network("10.0.0.0/8")]).check_address(ip_address(address), "http")


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_what_the_operator_allows_may_be_reached_by_http_too(address: str) -> None:
    targets = Targets([ip_network("10.1.0.0/16")])

    targets.check_address(ip_address(address), "http")
    targets.check_address(ip_address(address), "https")
    with pytest.raises(ForbiddenTargetError):
        targets.check_address(ip_address("10.2.0.1"), "https")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.com/hook", "begin with https://"),
        ("ftp://example.com", "no URL like"),
        ("https:///hook", "no URL like"),
        ("example.com", "no URL like"),
        ("https://ann:secret@example.com/", "a user or a password"),
        ("https://example.com:99999/", "no URL: "),
        ("https://[::1/", "no URL: "),
        ("https://example.com/a b", "percent-encoded"),
        ("https://example.com/\r\nX: y", "percent-encoded"),
        ("https://example.com/" + "x" * 2000, "the limit is 2000"),
        ("https://127.0.0.1/", "no public address"),
        ("https://[::ffff:169.254.169.254]/latest", "no public address"),
    ],
)
def test_a_url_that_leads_nowhere_good_is_not_registered(url: str, words: str) -> None:
    with pytest.raises(ForbiddenTargetError, match=words):
        Targets().check_url(url)


def test_a_url_may_name_a_public_host_and_what_is_allowed() -> None:
    Targets().check_url("https://example.com:8443/hook?token=1")
    Targets([ip_network("127.0.0.0/8")]).check_url("http://127.0.0.1:4000/hook")
    Targets([ip_network("127.0.0.0/8")]).check_url("http://inside.example/hook")
