"""Whose word is taken for where a caller is."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from assessmentstore.web.proxies import Proxies, user_agent

PROXY = "10.0.0.1"


def seen(trusted: str, peer: str, *forwarded: str) -> str:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    transport = Mock()
    transport.get_extra_info = lambda name, default=None: (peer, 1) if name == "peername" else default
    return Proxies(trusted).remote(make_mocked_request("GET", "/", headers=headers, transport=transport))


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        ("", "9.9.9.9", [], "9.9.9.9"),
        ("", "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.0/8", "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        ("10.0.0.0/8", PROXY, ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.0/8", PROXY, ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        ("10.0.0.0/8", PROXY, ["6.6.6.6", "1.1.1.1, 10.2.3.4"], "1.1.1.1"),
        ("10.0.0.1,10.0.0.2", PROXY, ["1.1.1.1, 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.0/8", PROXY, ["10.1.1.1"], "10.1.1.1"),
        ("10.0.0.0/8", PROXY, [], PROXY),
        ("10.0.0.0/8", PROXY, ["1.1.1.1, nonsense"], PROXY),
        ("10.0.0.0/8", PROXY, ["1.1.1.1:4711"], "1.1.1.1"),
        ("10.0.0.0/8", PROXY, ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("::1", "::1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
    ],
)
def test_the_caller_is_the_right_most_whom_nobody_trusts(
    trusted: str, peer: str, forwarded: list[str], expected: str
) -> None:
    assert seen(trusted, peer, *forwarded) == expected


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (None, None),
        ("", None),
        ("curl/8.5", "curl/8.5"),
        ("x" * 600, "x" * 500),
        ("odd \udcff byte", "odd ? byte"),
    ],
)
def test_a_user_agent_is_kept_as_far_as_it_can_be_stored(sent: str | None, kept: str | None) -> None:
    headers = CIMultiDict([] if sent is None else [("User-Agent", sent)])

    assert user_agent(Mock(headers=headers)) == kept
