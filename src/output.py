"""What the client commands print: tables and lines for people, JSON for programs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import orjson
import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

# Of a long task, where nobody looks at a bar but somebody may read a log.
_LINE_SECONDS = 5.0


class BrokenOffError(Exception):
    """Somebody had enough, with Ctrl-C; the message says how far it was."""


def for_people(stream: TextIO) -> bool:
    """Whether somebody looks at a stream: it is a terminal."""
    return stream.isatty()


def print_answer(answer: Mapping[str, Any], as_json: bool) -> None:
    """Print an answer as a table on a terminal, else as JSON."""
    if as_json or not for_people(sys.stdout):
        print_json(answer)
    else:
        _print_table(answer)


def print_rows(rows: Iterable[Mapping[str, Any]], table: Callable[[], RenderableType], as_json: bool) -> None:
    """Print rows as a table on a terminal, else as lines of JSON."""
    if as_json or not for_people(sys.stdout):
        for row in rows:
            print_json(row)
    else:
        from rich.console import Console  # noqa: PLC0415 - slow, and for people only

        Console().print(table())


def print_json(answer: Mapping[str, Any]) -> None:
    """Print a line of JSON."""
    typer.echo(orjson.dumps(answer, option=orjson.OPT_UTC_Z))


def _print_table(answer: Mapping[str, Any]) -> None:
    """One line for each member that has a value."""
    from rich.console import Console  # noqa: PLC0415 - slow, and for people only
    from rich.json import JSON  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in answer.items():
        if value is not None:
            table.add_row(name, JSON.from_data(value) if isinstance(value, dict | list) else Text(str(value)))
    Console().print(table)


def print_change(record: Mapping[str, Any], as_json: bool) -> None:
    """Print the state of an assessment on one line, for people on a terminal and as JSON elsewhere."""
    if as_json or not for_people(sys.stdout):
        return print_json(record)
    message = record["errorMessage"] or record["message"] or ""
    at = record["updatedAt"][11:19]
    return typer.echo(f"{at}  v{record['version']:<3}  {record['state']:<10}  {record['progress']:>3} %  {message}")


def print_event(event: Mapping[str, Any], as_json: bool) -> None:
    """Print an event on one line, for people on a terminal and as JSON elsewhere."""
    if as_json or not for_people(sys.stdout):
        return print_json(event)
    said = event.get("error") or event.get("reason") or event["message"] or ""
    at, kind = event["occurredAt"][11:19], event["type"].removeprefix("assessment.")
    return typer.echo(f"{at}  {event['assessmentId']}  v{event['version']:<3}  {kind:<10}  {said}")


@contextmanager
def _broken_off(task: str, so_far: Callable[[], object] = str) -> Iterator[None]:
    """Tell of Ctrl-C how far the task was; within a coroutine it comes as a cancellation."""
    try:
        yield
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        words = filter(None, (f"Broken off while {task}", str(so_far())))
        raise BrokenOffError(f"{': '.join(words)}; run it again to finish") from error


@contextmanager
def progress(task: str) -> Iterator[Callable[[str], None]]:
    """Show on standard error that a long task goes on; what is yielded tells its steps."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    with _broken_off(task), console.status(Text(task)):  # moves on a terminal, and is nothing elsewhere
        yield lambda line: console.print(line, markup=False, soft_wrap=True)


class Measured:
    """How far a task is whose size is known, in words."""

    def __init__(self, unit: str, show: Callable[[Measured], None]) -> None:
        self.total = 0
        self.done = 0
        self._unit = unit
        self._show = show
        self._started = time.monotonic()

    def expect(self, total: int) -> None:
        """There is so much more to do."""
        self.total += total
        self._show(self)

    def passed(self, count: int) -> None:
        """So much of it is done."""
        self.done += count
        self._show(self)

    @property
    def so_far(self) -> str:
        """How much of how much is done."""
        return f"{self.done:,} of {self.total:,} {self._unit}"

    def __str__(self) -> str:
        rate = self.done / max(time.monotonic() - self._started, 0.001)
        left = (self.total - self.done) / rate if rate else 0
        return f"{self.so_far}, {rate:,.0f}/s, {_duration(left)} left"


@contextmanager
def measured(task: str, unit: str) -> Iterator[Measured]:
    """Show how far a long task is, its rate and the time left: a bar on a terminal, a line now and then elsewhere."""
    if for_people(sys.stderr):
        with _measured_bar(task, unit) as shown, _broken_off(task, lambda: shown.so_far):
            yield shown
        return
    told = time.monotonic()

    def show(measure: Measured) -> None:
        nonlocal told
        if time.monotonic() - told >= _LINE_SECONDS:
            told = time.monotonic()
            typer.echo(f"{task}: {measure}", err=True)

    measure = Measured(unit, show)
    with _broken_off(task, lambda: measure.so_far):
        yield measure
    typer.echo(f"{task}: {measure}", err=True)


@contextmanager
def _measured_bar(task: str, unit: str) -> Iterator[Measured]:
    from rich.console import Console  # noqa: PLC0415 - slow, and for people only
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task(task, total=None, words="")
        yield Measured(
            unit, lambda measure: bar.update(row, total=measure.total, completed=measure.done, words=str(measure))
        )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
