"""Server-Sent Events out of bytes: the laws of the specification, whatever pieces the bytes come in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.client.sse import Message, SseParser


def parse(pieces: Iterable[bytes]) -> tuple[list[Message], str, int | None]:
    parser = SseParser()
    messages = [message for piece in pieces for message in parser.feed(piece)]
    return messages, parser.last_event_id, parser.retry


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


# What a stream is made of, so that runs of it are often close to an event.
_PARTS = st.sampled_from(
    [
        *(
            b"data",
            b"id",
            b"event",
            b"retry",
            b":",
            b": ",
            b" ",
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\xef\xbb\xbf",
            b"\x00",
        ),
        *(b"x", b"12", "é€😀".encode(), b"\xff", b"\xe2\x82"),
    ]
)


@given(st.lists(_PARTS, max_size=60).map(b"".join), st.lists(st.integers(0, 200), max_size=20))
def test_the_pieces_make_no_difference(data: bytes, places: list[int]) -> None:
    whole = parse([data])

    assert parse(cut(data, places)) == whole
    assert parse(data[place : place + 1] for place in range(len(data))) == whole


_TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=10)


@given(
    st.lists(st.tuples(_TEXT, st.lists(_TEXT, min_size=1, max_size=3)), max_size=5),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=20),
)
def test_what_was_written_is_read(
    events: list[tuple[str, list[str]]], end: str, marked: bool, places: list[int]
) -> None:
    text = "".join(
        f"event: {name}{end}" + "".join(f"data: {line}{end}" for line in lines) + end for name, lines in events
    )
    data = ("\ufeff" if marked else "").encode() + text.encode()

    messages, _, _ = parse(cut(data, places))

    assert messages == [Message(name or "message", "\n".join(lines), "") for name, lines in events]


@pytest.mark.parametrize(
    ("data", "messages", "last_id"),
    [
        (b"data: a\n\n", [Message("message", "a", "")], ""),
        (b"data:a\ndata: b\ndata\n\n", [Message("message", "a\nb\n", "")], ""),
        (b"data:  a\n\n", [Message("message", " a", "")], ""),
        (b"data\n\n", [Message("message", "", "")], ""),
        (b": a comment\n\n", [], ""),
        (b"event: x\n\ndata: a\n\n", [Message("message", "a", "")], ""),
        (b"id: 1\ndata: a\n\ndata: b\n\n", [Message("message", "a", "1"), Message("message", "b", "1")], "1"),
        (b"id: 1\n\n", [], "1"),
        (b"id: 1\ndata: a\n", [], ""),
        (b"id: 1\n\nid: 2\ndata: a", [], "1"),
        (b"id: 1\n\nid\n\n", [], ""),
        (b"id: 1\n\nid: a\x00b\n\n", [], "1"),
        (b"Data: a\nwhatever: b\n\n", [], ""),
        (b"data: a\r\rdata: b\r\n\r\n", [Message("message", "a", ""), Message("message", "b", "")], ""),
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [Message("message", "a", "")], ""),
        (b"data: \xff\n\n", [Message("message", "\ufffd", "")], ""),
    ],
)
def test_fields_mean_what_the_specification_says(data: bytes, messages: list[Message], last_id: str) -> None:
    assert parse([data])[:2] == (messages, last_id)


@pytest.mark.parametrize(("data", "retry"), [(b"retry: 20\n", 20), (b"retry: 2s\n", None), (b"retry\n", None)])
def test_retry_is_digits_alone(data: bytes, retry: int | None) -> None:
    assert parse([data])[2] == retry
