"""A dead letter as it goes to the commands topic again: with the id that it had, or one that is always the same.

So however often it is sent, and whoever dies in the middle, it has one effect: the second time it is a duplicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from .base import MAX_ID_LENGTH
from .envelope import decode_command, is_binary
from .errors import NotACommandError, RejectedError, Rejection

ORIGIN_HEADER = "redriven-from"
"""Names the dead letter that a record comes from, as PARTITION:OFFSET; the first one, where it was redriven again."""

_ID = "ce_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A record that is no command, or was none when it came."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def place(self) -> str:
        """Where it stood on the commands topic."""
        return f"{self.partition}:{self.offset}"

    @property
    def origin(self) -> str | None:
        """The place of the dead letter that it was redriven from, if it was."""
        found = next((value for name, value in self.headers if name == ORIGIN_HEADER), None)
        return None if found is None else found.decode("utf-8", "replace")


def redriven(letter: Letter, corrected: bytes | None = None) -> Letter:
    """The record that is sent in place of a dead letter; what has no id gets one that is made of its place.

    Args:
        letter: as it came; key and headers stay.
        corrected: what is sent for its value.

    Raises:
        RejectedError: the corrected value is no command, or has another id than the dead letter; or there is nothing
            to send.
    """
    origin = letter.origin or letter.place
    headers = [(name, value or b"") for name, value in letter.headers if name != ORIGIN_HEADER]
    value = letter.value if corrected is None else corrected
    made_up = f"dead-letter-{origin}"
    by_name = {name.lower(): content for name, content in headers}
    if is_binary(by_name):
        if not by_name.get(_ID):
            headers = [(name, content) for name, content in headers if name.lower() != _ID]
            headers.append((_ID, made_up.encode()))
    else:
        own = _id(_parsed(letter.value))
        value = _with_id(value, own or made_up)
        _same_id(letter, own, _id(_parsed(value)))
    sent = replace(letter, value=value, headers=[*headers, (ORIGIN_HEADER, origin.encode())])
    if corrected is not None:
        _check(sent)
    elif sent.key is None and sent.value is None:
        raise RejectedError(Rejection.invalid(f"{letter.place} has neither a key nor a value: drop it"))
    return sent


def command_id(letter: Letter) -> str | None:
    """The id that a record has as a command; nothing where it can have none."""
    headers = {name.lower(): value for name, value in letter.headers}
    if is_binary(headers):
        return (headers.get(_ID) or b"").decode("utf-8", "replace") or None
    return _id(_parsed(letter.value))


def _with_id(value: bytes | None, new: str) -> bytes | None:
    """A value that has an id: its own, or a new one; what is no JSON object can have none."""
    event = _parsed(value)
    if not isinstance(event, dict) or event.get("id") not in (None, ""):
        return value
    return orjson.dumps(event | {"id": new})


def _same_id(letter: Letter, own: str | None, sent: str | None) -> None:
    if own is not None and sent != own:
        words = (
            f"The dead letter {letter.place} has the id {own}, the corrected value another one: leave the id as it is"
        )
        raise RejectedError(Rejection.invalid(words))


def _check(sent: Letter) -> None:
    try:
        decode_command(sent.key, sent.value, sent.headers)
    except NotACommandError as error:
        words = f"The corrected value of {sent.place} is no command either: {error}. Nothing was sent"
        raise RejectedError(Rejection.invalid(words)) from error


def _parsed(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


def _id(event: Any) -> str | None:
    """The id in a JSON object, if a command can have it."""
    found = event.get("id") if isinstance(event, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID_LENGTH and "\x00" not in found else None
