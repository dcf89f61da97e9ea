"""Dead letters on their way back: the id stays or is always the same, and so do key and headers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assessmentstore.chaos.messages import junk, request
from assessmentstore.commands.views import dead_letters_table
from assessmentstore.models.commands import Command
from assessmentstore.models.envelope import decode_command
from assessmentstore.models.errors import RejectedError
from assessmentstore.models.redrive import Letter, command_id, redriven
from assessmentstore.store.dead_letters import StoredLetter

EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "c-1", "type": "assessment.create", "source": "/tests", "data": request()
}  # fmt: skip


def letter(value: bytes | None, *headers: tuple[str, bytes | None], key: bytes | None = b"a-1") -> Letter:
    return Letter(partition=3, offset=17, key=key, value=value, headers=headers)


def value(**changes: Any) -> bytes:
    return orjson.dumps({name: found for name, found in (EVENT | changes).items() if found is not ...})


def test_bytes_that_have_an_id_go_as_they_came_but_for_one_header() -> None:
    came = letter(b' {"id": "c-1", "type":  "strange"}', ("content-type", b"application/cloudevents+json"), ("x", None))

    sent = redriven(came)

    assert (sent.key, sent.value) == (came.key, came.value)
    assert sent.headers == [
        ("content-type", b"application/cloudevents+json"), ("x", b""), ("redriven-from", b"3:17")
    ]  # fmt: skip
    assert command_id(sent) == "c-1"


@pytest.mark.parametrize("missing", [..., None, ""])
def test_a_command_without_an_id_gets_one_that_is_made_of_its_place(missing: Any) -> None:
    sent = redriven(letter(value(id=missing)))

    decoded = decode_command(sent.key, sent.value, sent.headers)
    assert isinstance(decoded, Command)
    assert decoded.header.id == command_id(sent) == "dead-letter-3:17"


def test_in_binary_mode_the_id_is_a_header() -> None:
    binary = (("CE_Type", b"assessment.start"), ("ce_specversion", b"1.0"), ("ce_source", b"/tests"))

    with_one = redriven(letter(b"{", *binary, ("ce_id", b"c-9")), b"{}")
    without = redriven(letter(b"{", *binary, ("CE_ID", b"")), b"{}")

    assert (command_id(with_one), command_id(without)) == ("c-9", "dead-letter-3:17")
    assert isinstance(decode_command(without.key, without.value, without.headers), Command)


def test_a_corrected_value_keeps_the_id_of_the_dead_letter() -> None:
    came = letter(value(type="assessment.craete"))

    assert command_id(redriven(came, value(id=...))) == "c-1"
    assert redriven(came, value()).value == value()
    with pytest.raises(RejectedError, match="has the id c-1, the corrected value another one"):
        redriven(came, value(id="c-2"))


@pytest.mark.parametrize("broken", [b'{"id": "c-1"', value(id=7), value(id="i" * 300), b"", None, b"[1]"])
def test_where_the_dead_letter_has_no_id_to_keep_the_corrected_value_has_its_own_or_gets_one(
    broken: bytes | None,
) -> None:
    assert command_id(redriven(letter(broken), value(id="c-2"))) == "c-2"
    assert command_id(redriven(letter(broken), value(id=...))) == "dead-letter-3:17"


def test_a_corrected_value_that_is_no_command_is_not_sent() -> None:
    with pytest.raises(RejectedError, match="is no command either: the type 'x' is not one of the seven"):
        redriven(letter(b"{"), value(type="x"))
    with pytest.raises(RejectedError, match="the record has no key"):
        redriven(letter(b"{", key=None), value())


def test_what_has_neither_key_nor_value_cannot_be_sent() -> None:
    with pytest.raises(RejectedError, match="neither a key nor a value"):
        redriven(letter(None, key=None))
    assert redriven(letter(None)).value is None


@given(st.sampled_from(junk("j", "a-1", large=False)), st.integers(0, 99), st.integers(0, 9**9))
def test_whatever_it_was_it_comes_back_the_same_and_keeps_its_first_place(
    came: Any, partition: int, offset: int
) -> None:
    first = Letter(partition=partition, offset=offset, key=came.key, value=came.value, headers=came.headers)
    sent = redriven(first)

    assert redriven(first) == sent
    again = redriven(replace(sent, partition=0, offset=1))
    assert sent.origin == again.origin == first.place
    assert (again.key, again.value, command_id(again)) == (sent.key, sent.value, command_id(sent))
    assert sorted(again.headers) == sorted(sent.headers)


def test_a_page_is_drawn_with_what_cannot_be_printed_in_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    stored = StoredLetter(
        id=7, letter=letter(None, key=b"\xff[red]"), size=2, reason="the record key is not UTF-8",
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), redriven_at=None, redriven_by=None, redriven_to=None,
        dropped_at=None, dropped_by=None, drop_reason=None,
    )  # fmt: skip

    Console(width=200).print(dead_letters_table([stored], more=True))

    shown = capsys.readouterr().out
    assert re.search(r"3:17 +7 +2026-01-02 03:04:05Z +\\xff\[red\] +2 +open +the record key is not UTF-8", shown)
    assert "1 dead letters, more with --after 7" in shown
