"""Server-Sent Events out of bytes, as the WHATWG specifies (HTML, 9.2.6), in whatever pieces they come."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Message:
    """One event of a stream."""

    event: str
    """The type; `message` where none is named."""
    data: str
    last_event_id: str
    """Where the stream is with this event."""


class SseParser:
    """Take bytes, and give the messages that are complete."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        """Where the stream is: what a `Last-Event-ID` has to say to go on. It moves with each empty line."""
        self.retry: int | None = None
        """Milliseconds that the server wants to pass before a client comes back."""
        self._rest = b""
        self._beginning = True
        self._after_cr = False
        self._data: list[str] = []
        self._event = ""
        self._id = last_event_id

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes, and return what they complete."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")  # the other half of a line end that is taken already
            self._after_cr = False
        self._rest += data
        if self._beginning:
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            self._rest = self._rest.removeprefix(_BOM)
            self._beginning = False
        messages = (self._take(line.decode(errors="replace")) for line in self._lines())
        return [message for message in messages if message]

    def _lines(self) -> Iterator[bytes]:
        """The complete lines."""
        *lines, rest = _LINE_END.split(self._rest)
        self._after_cr = self._rest.endswith(b"\r")
        self._rest = rest
        yield from lines

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            self.retry = int(value)
        return None  # comments, and fields that are not known, mean nothing

    def _dispatch(self) -> Message | None:
        self.last_event_id = self._id
        data, event = self._data, self._event
        self._data, self._event = [], ""
        if not data:
            return None
        return Message(event or "message", "\n".join(data), self.last_event_id)
