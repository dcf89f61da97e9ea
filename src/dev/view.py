"""What `dev` shows while it runs: a live table on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..models.assessment import AssessmentState
from ..services import Services
from ..settings import Settings, without_password
from .access import local_token, local_url
from .board import Board, Row

_REFRESH = 0.5
_LINE_EVERY = 5.0
_ROWS = 12

_COLOURS = {
    AssessmentState.PENDING: "yellow",
    AssessmentState.PROCESSING: "cyan",
    AssessmentState.COMPLETED: "green",
    AssessmentState.FAILED: "red",
    AssessmentState.CANCELLED: "magenta",
}


class View:
    """The terminal, or whatever standard output is."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def say(self, line: str = "") -> None:
        """Print a line as it is."""
        self._console.print(line, markup=False, soft_wrap=True)

    def mute(self) -> None:
        """Print nothing from now on."""
        self._console.quiet = True

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage is under way, and then how long it took."""
        start = time.monotonic()
        with self._console.status(Text(name)):  # moves on a terminal, and is nothing elsewhere
            yield
        self.say(f"{name:<24} {time.monotonic() - start:5.1f} s")

    def welcome(self, settings: Settings, services: Services, compliance_url: str, board: Board) -> None:
        """Say where everything is, and how to ask for an assessment that is completed."""
        api, worker = local_url(settings.http_port), local_url(settings.worker_port)
        places = {"API": api, "health": f"{api}/health", "metrics": f"{api}/metrics", "worker": worker}
        places["compliance"] = compliance_url
        places |= {service.name: without_password(service.url) for service in services.services}
        self.say()
        for name, url in places.items():
            self.say(f"{name:<10} {url}")
        example = next(row.id for row in board.latest(100) if row.state is AssessmentState.COMPLETED)
        token = local_token(settings)
        self.say(
            f"\nassessmentstore get {example}\ncurl -H 'Authorization: Bearer {token}' {api}/assessments/{example}\n"
        )

    async def follow(self, board: Board) -> None:
        """Show the board until cancelled."""
        if not self._console.is_terminal:
            await self._lines(board)
        with Live(console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(_screen(board), refresh=True)
                await asyncio.sleep(_REFRESH)

    async def _lines(self, board: Board) -> None:
        while True:
            await asyncio.sleep(_LINE_EVERY)
            self.say(_counts(board).plain)


def _screen(board: Board) -> Group:
    table = Table(box=None, padding=(0, 1), expand=True)
    for heading in ("id", "type", "server", "state", "progress", "message", "seconds"):
        table.add_column(heading, no_wrap=True, ratio=1 if heading == "message" else None)
    now = datetime.now(UTC)
    for row in board.latest(_ROWS):
        table.add_row(*_cells(row, now))
    return Group("", _counts(board), "", table, "")


def _cells(row: Row, now: datetime) -> list[Text]:
    seconds = row.duration(now)
    texts = (row.id, row.type, row.server, row.state, f"{row.progress} %", row.message)
    cells = [Text(text, style=_COLOURS[row.state] if text is row.state else "") for text in texts]
    return [*cells, Text("" if seconds is None else f"{max(0.0, seconds):.1f}")]


def _counts(board: Board) -> Text:
    parts = [(f"{state} {board.counts[state]}", _COLOURS[state]) for state in AssessmentState]
    return Text("   ").join(Text(words, style=colour) for words, colour in parts)
