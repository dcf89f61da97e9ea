"""The command `batch`: thousands of creates out of a file of JSON lines, which can be broken off and made again."""

from __future__ import annotations

import shutil
import sys
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from ..output import BrokenOffError, for_people, print_answer, print_json
from .session import FAILED, LONG_PATIENCE, Json, Token, Url, call

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import AsyncClient, BatchAnswer
    from ..models.base import JsonObject

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()

MOST_LINES = 1_000
"""Of one request: a second or so of work."""

# The server takes 64 MiB; this is some seconds on a slow line.
_MOST_BYTES = 8 * 1024 * 1024

_BLOCK_BYTES = 1024 * 1024


@dataclass
class Chunk:
    """The lines that go into one request."""

    key: str
    """The same whenever the same file is sent again."""
    numbers: list[int] = field(default_factory=list)
    requests: list[JsonObject] = field(default_factory=list)
    wrong: list[int] = field(default_factory=list)
    """Lines that are no JSON object."""
    size: int = 0
    """Bytes, blank lines and wrong ones included."""


@dataclass
class Tally:
    """What became of the lines so far."""

    created: int = 0
    refused: int = 0


@commands.command()
def batch(
    file: Annotated[typer.FileBinaryRead, typer.Argument(metavar="FILE", help="- is standard input.")],
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Create an assessment for each line of a file.

    A line is a request as JSON. Lines that are refused are told by their numbers, and do not stop the others. After
    Ctrl-C or a failure the same file can be sent again: what was created is not created twice. Where the output is no
    terminal, a line of JSON is printed for each line.
    Exit code: 0 all are created, 1 some were refused or an error, 130 broken off.

    \b
    Example:
      assessmentstore batch requests.jsonl
    """
    tally = Tally()
    people = not json and for_people(sys.stdout)

    async def send(client: AsyncClient) -> None:
        with _readable_twice(file) as lines:
            digest, size = _digest(lines)
            with _bar(size) as advance:
                for chunk in chunks(lines, digest):
                    _tell(chunk, await _create(client, chunk), tally, people)
                    advance(chunk.size)

    try:
        call(url, token, send, patience=LONG_PATIENCE)
    except KeyboardInterrupt as error:
        words = f"Broken off: {tally.created} created, {tally.refused} refused so far"
        raise BrokenOffError(f"{words}; send the same file again to go on, nothing is created twice") from error
    if people:
        print_answer({"created": tally.created, "refused": tally.refused}, json)
    if tally.refused:
        raise typer.Exit(FAILED)


def chunks(lines: Iterable[bytes], digest: str) -> Iterator[Chunk]:
    """The requests of a file, with a key for each chunk that is made of the file's digest and the chunk's number."""
    count = 1
    chunk = Chunk(f"batch-{digest}-{count}")
    for number, line in enumerate(lines, 1):
        if chunk.size and (chunk.size + len(line) > _MOST_BYTES or len(chunk.numbers) == MOST_LINES):
            yield chunk
            count += 1
            chunk = Chunk(f"batch-{digest}-{count}")
        chunk.size += len(line)
        if line.strip():
            _add(chunk, number, line)
    if chunk.size:
        yield chunk


def _add(chunk: Chunk, number: int, line: bytes) -> None:
    import orjson

    try:
        # Some editors put a byte order mark before the first line.
        request = orjson.loads(line.removeprefix(BOM_UTF8) if number == 1 else line)
    except orjson.JSONDecodeError:
        request = None
    if isinstance(request, dict):
        chunk.numbers.append(number)
        chunk.requests.append(request)
    else:
        chunk.wrong.append(number)


async def _create(client: AsyncClient, chunk: Chunk) -> BatchAnswer:
    from ..client import BatchAnswer, ClientError

    if not chunk.requests:
        return BatchAnswer(assessment_ids=())
    try:
        return await client.create_batch(chunk.requests, idempotency_key=chunk.key)
    except ClientError as error:
        words = f"lines {chunk.numbers[0]} to {chunk.numbers[-1]}: {error.message}"
        raise ClientError(error.status, error.code, words, error.details) from error


def _tell(chunk: Chunk, answer: BatchAnswer, tally: Tally, people: bool) -> None:
    """Print what became of each line."""
    results: dict[int, dict[str, Any]] = {
        number: {"code": "VALIDATION_ERROR", "message": "The line is no JSON object"} for number in chunk.wrong
    }
    results |= {chunk.numbers[item.index]: {"code": item.code, "message": item.message} for item in answer.errors}
    accepted = (number for number in chunk.numbers if number not in results)
    results |= {number: {"assessmentId": name} for number, name in zip(accepted, answer.assessment_ids, strict=True)}
    for number, result in sorted(results.items()):
        if "code" in result:
            tally.refused += 1
            typer.echo(f"line {number}: {result['code']}: {result['message']}", err=True)
        else:
            tally.created += 1
        if not people:
            print_json({"line": number, **result})


@contextmanager
def _readable_twice(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The file itself, or a copy of what comes out of a pipe."""
    if file.seekable():
        yield file
        return
    with SpooledTemporaryFile(max_size=_MOST_BYTES) as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _digest(file: IO[bytes]) -> tuple[str, int]:
    """What tells this file from any other, and how long it is."""
    digest, size = blake2b(digest_size=16), 0
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    file.seek(0)
    return digest.hexdigest(), size


@contextmanager
def _bar(size: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where somebody looks."""
    if not for_people(sys.stderr):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("creating", total=size)
        yield lambda done: progress.advance(task, done)
