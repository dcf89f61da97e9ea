"""A list in a body, taken item by item: the same as to parse it at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st
from tests.harness.waiting import DEADLINE

from assessmentstore.models.errors import RejectedError, Rejection
from assessmentstore.web import bodies
from assessmentstore.web.bodies import Items, Memory, read_items, read_json, whole_member

_SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text()
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class _Body:
    """A body that is all there."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def set_read_chunk_size(self, size: int) -> None:
        pass

    async def readany(self) -> bytes:
        content, self._content = self._content, b""
        return content


async def _items(content: bytes) -> Items:
    request = make_mocked_request("POST", "/", payload=_Body(content))  # type: ignore[arg-type]
    return await read_items(request)


def _read(content: bytes) -> Items:
    return asyncio.run(_items(content))


@given(st.lists(_VALUES, min_size=1, max_size=8), st.sampled_from([None, 1, "\t"]))
def test_every_item_is_found_however_the_list_is_written(values: list[Any], indent: int | str | None) -> None:
    written = json.dumps(values, indent=indent, ensure_ascii=indent is None).encode("utf-8", "surrogatepass")
    try:
        expected = orjson.loads(written)
    except orjson.JSONDecodeError:
        return

    assert _read(b" " + written + b"\n").values == expected


@given(st.lists(_VALUES, min_size=1, max_size=5), st.data())
def test_what_is_damaged_is_refused_or_means_what_it_says(values: list[Any], data: st.DataObject) -> None:
    written = bytearray(json.dumps(values).encode())
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] = data.draw(st.sampled_from(b'[]{}",:\\ x0'))

    try:
        expected = orjson.loads(written)
    except orjson.JSONDecodeError:
        expected = None
    try:
        found = _read(bytes(written)).values
    except RejectedError:
        found = None

    assert found == (expected if isinstance(expected, list) and expected else None)


def test_the_digest_is_that_of_the_json_and_not_of_its_writing() -> None:
    one = _read(b'[{"a":1,"b":[2]}, 3]').digest

    assert _read(b'[ {"b" : [2], "a": 1} ,3 ]').digest == one
    assert _read(b'[{"a":1,"b":[2]}, 4]').digest != one
    assert _read(b'[{"a":1,"b":[2]}, "3"]').digest != one
    assert _read(b"[1,23]").digest != _read(b"[12,3]").digest


def test_an_item_that_is_too_large_is_not_parsed_and_stands_in_its_place() -> None:
    first, large, last = _read(b'[1,{"x":"' + b"y" * 1_100_000 + b'"},2]').values

    assert (first, last) == (1, 2)
    assert isinstance(large, Rejection)
    assert large.code == "PAYLOAD_TOO_LARGE"


def test_an_item_that_is_nested_deeper_than_json_is_written_has_a_digest() -> None:
    deep = b"[" * 400 + b"]" * 400

    assert _read(b"[" + deep + b"]").digest != _read(b"[" + deep + b",1]").digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has to be a JSON list"),
        (b"{}", "has to be a JSON list"),
        (b"[]", "The list is empty"),
        (b"[ ]", "The list is empty"),
        (b"[1", "a comma or ] is missing"),
        (b"[1,]", "a value is missing"),
        (b"[,1]", "a value is missing"),
        (b"[1 2]", "a comma or ] is missing"),
        (b"[1] 2", "something follows"),
        (b"[{]", "not JSON"),
        (b'[{"a]', "ends too early"),
        (b"[nope]", "not JSON"),
        (b"[" + b"1," * 10_000 + b"1]", "more than 10000 items"),
    ],
)
def test_what_is_no_list_of_items_is_refused_as_a_whole(content: bytes, message: str) -> None:
    with pytest.raises(RejectedError, match=message) as refused:
        _read(content)

    assert refused.value.rejection.code == "VALIDATION_ERROR"


async def test_others_get_their_turn_while_a_long_list_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await _items(b"[" + b",".join([b"[" + b"{}," * 30_000 + b"{}]"] * 10) + b"]")
    counting.cancel()

    assert turns > 10


async def test_who_finds_no_room_waits_until_there_is_some() -> None:
    memory, order = Memory(10), []

    async def use(name: str, count: int) -> None:
        async with memory.taken(count):
            order.append(name)
            await asyncio.sleep(0)

    async with memory.taken(8):
        waiting = asyncio.create_task(use("large", 5))
        await use("small", 2)
        assert order == ["small"]
    await asyncio.wait_for(waiting, DEADLINE)

    assert order == ["small", "large"]


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(_Body):
        async def readany(self) -> bytes:
            await asyncio.Event().wait()
            return b""

    monkeypatch.setattr(bodies, "_UPLOAD_SECONDS", 0.01)

    with pytest.raises(web.HTTPRequestTimeout):
        await read_items(make_mocked_request("POST", "/", payload=Never(b"")))  # type: ignore[arg-type]


async def test_a_body_that_says_it_is_too_large_is_not_even_waited_for() -> None:
    class Never(_Body):
        async def readany(self) -> bytes:
            raise AssertionError("it is read")

    headers = {"Content-Length": "1048577"}
    request = make_mocked_request("POST", "/", headers, payload=Never(b""))  # type: ignore[arg-type]

    with pytest.raises(RejectedError, match="too large"):
        await read_json(request)


async def test_a_body_that_cannot_be_read_is_told_in_our_words() -> None:
    class Broken(_Body):
        async def readany(self) -> bytes:
            raise web.RequestPayloadError("400, message:\n  Can not decode")

    with pytest.raises(RejectedError, match="not what Transfer-Encoding"):
        await read_json(make_mocked_request("POST", "/", payload=Broken(b"")))  # type: ignore[arg-type]


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing() -> None:
    assert whole_member({"maxRetries": 3.0}, "maxRetries", largest=5) == 3

    for wrong in (3.5, "3", True, None, -1.0, 6.0):
        with pytest.raises(RejectedError, match="send a whole number from 0 to 5"):
            whole_member({"maxRetries": wrong}, "maxRetries", largest=5)
