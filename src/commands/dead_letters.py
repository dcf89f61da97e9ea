"""The commands about records that were no commands: `dead-letters list`, `show`, `redrive` and `drop`.

They work on Postgres and Kafka themselves, with the settings of the machine, as `migrate` does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..output import for_people, print_json, print_rows, progress
from .session import FAILED, Json, instant

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..agents.redrive import Outcome
    from ..models.base import JsonObject
    from ..store.dead_letters import DeadLetters, LetterFilters, StoredLetter

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

# A terminal shows the beginning; `--raw` and JSON have all of it.
_SHOWN_BYTES = 4_000


class _State(StrEnum):
    """What is listed."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DROPPED = "dropped"
    ALL = "all"


Name = Annotated[str, typer.Argument(metavar="LETTER", help="PARTITION:OFFSET, or the id.", show_default=False)]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[LETTER]...", help="PARTITION:OFFSET, or ids.", show_default=False)
]
Partition = Annotated[int | None, typer.Option(min=0, help="Only of this partition of the commands topic.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="Only since then, like 2026-01-31T12:00:00Z.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Only those whose reason has this in it.")]
All = Annotated[bool, typer.Option("--all", help="All open ones that the filters let through.")]
By = Annotated[str | None, typer.Option(help="Who decides so, for the record; else you.", show_default=False)]


@commands.command("list")
def list_(
    partition: Partition = None,
    since: Since = None,
    reason: Reason = None,
    state: Annotated[_State, typer.Option(help="What became of them.")] = _State.OPEN,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most on a page.")] = 100,
    after: Annotated[int, typer.Option(min=0, metavar="ID", help="Go on after this one.")] = 0,
    json: Json = False,
) -> None:
    """List records that were no commands, oldest first.

    \b
    Example:
      assessmentstore dead-letters list --reason "not JSON"
    """
    filters = _filters(partition, since, reason, state)
    page = asyncio.run(_with(lambda letters: letters.page(filters, after=after, limit=limit)))

    def table() -> RenderableType:
        from .views import dead_letters_table

        return dead_letters_table(page, more=len(page) == limit)

    print_rows(map(_brief, page), table, json)


@commands.command()
def show(
    letter: Name,
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes of the value and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Print one record with its headers and bytes.

    \b
    Example:
      assessmentstore dead-letters show 3:17 --raw > command.json
    """
    stored = asyncio.run(_with(lambda letters: letters.find(letter)))
    value = stored.letter.value
    if raw:
        sys.stdout.buffer.write(value or b"")
        return
    people = for_people(sys.stdout) and not json
    shown = value[:_SHOWN_BYTES] if people and value is not None else value
    told = _brief(stored) | {
        "headers": [{"name": name} | _bytes("value", content) for name, content in stored.letter.headers],
        **_bytes("value", shown),
    }
    if people:
        from ..output import print_answer

        cut = {} if shown == value else {"note": f"the first {_SHOWN_BYTES} bytes: all of them with --raw"}
        print_answer(told | cut, as_json=False)
    else:
        print_json(told)


@commands.command()
def redrive(  # noqa: PLR0913, PLR0917
    letters: Names = None,
    everything: All = False,
    partition: Partition = None,
    since: Since = None,
    reason: Reason = None,
    value: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--value", "--edit", metavar="FILE", help="Send this in place of the value; - is standard input."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven or dropped before.")] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Send records to the commands topic again.

    Key, headers and command id stay, so that it has one effect however often it is sent; what has no id gets one that
    is made of its place. What is still no command becomes a dead letter again, whose header redriven-from names the
    first one; --all passes over these.
    Exit code: 0 all are sent or were before, 1 some could not be sent or an error.

    \b
    Example:
      assessmentstore dead-letters redrive 3:17 --value corrected.json
    """
    _one_way(letters, everything, filtered=(partition, since, reason) != (None, None, None))
    corrected = None if value is None else value.read()
    if corrected is not None and (everything or len(letters or ()) != 1):
        raise typer.BadParameter("it takes one dead letter by its name", param_hint="--value")
    filters = _filters(partition, since, reason, _State.OPEN)

    async def work(found: DeadLetters, tell: Callable[[Outcome], None]) -> None:
        from ..agents.redrive import open_redriver
        from ..settings import Settings

        async with open_redriver(Settings.load(), found, _who(by)) as redriver:
            async for stored in _chosen(found, letters, filters, fresh=True):
                tell(await redriver.redrive(stored, corrected=corrected, again=again))

    _tell_all("redriving", work, json)


@commands.command()
def drop(
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why nothing is lost; kept with it.")],
    letters: Names = None,
    everything: All = False,
    partition: Partition = None,
    since: Since = None,
    reason: Reason = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Mark records as seen to, without sending them.

    The bytes stay until the retention takes them.

    \b
    Example:
      assessmentstore dead-letters drop --all --reason "not JSON" --because "a load test of ours"
    """
    if not because.strip():
        raise typer.BadParameter("say why nothing is lost", param_hint="--because")
    _one_way(letters, everything, filtered=(partition, since, reason) != (None, None, None))
    filters = _filters(partition, since, reason, _State.OPEN)

    async def work(found: DeadLetters, tell: Callable[[Outcome], None]) -> None:
        from ..agents.redrive import open_redriver
        from ..settings import Settings

        async with open_redriver(Settings.load(), found, _who(by)) as redriver:
            async for stored in _chosen(found, letters, filters, fresh=False):
                tell(await redriver.drop(stored, because))

    _tell_all("dropping", work, json)


async def _chosen(
    found: DeadLetters, names: Sequence[str] | None, filters: LetterFilters, *, fresh: bool
) -> AsyncIterator[StoredLetter]:
    """Those that are named, or all that filters let through; `fresh` are those that did not come back."""
    for name in names or ():
        yield await found.find(name)
    if not names:
        back = 0
        async for stored in found.all(filters):
            if fresh and stored.letter.origin is not None:
                back += 1
            else:
                yield stored
        if back:
            words = f"{back} came back from a redrive: correct them with --value, name them, or drop them"
            typer.echo(words, err=True)


def _tell_all(
    task: str, work: Callable[[DeadLetters, Callable[[Outcome], None]], Awaitable[None]], as_json: bool
) -> None:
    """Do something with dead letters, and tell what became of each, and how many there were of each sort."""
    from collections import Counter

    counts: Counter[str] = Counter()
    in_words = for_people(sys.stdout) and not as_json

    def tell(outcome: Outcome) -> None:
        counts[outcome.did] += 1
        if in_words:
            typer.echo(_sentence(outcome))
        else:
            print_json(_outcome(outcome))

    # The sentences show that it goes on; they and something that moves would spoil each other.
    with nullcontext() if in_words else progress(task):
        asyncio.run(_with(lambda letters: work(letters, tell)))
    told = (f"{count} {'left as they were' if did == 'nothing' else did}" for did, count in counts.items())
    typer.echo(", ".join(told) or "nothing to do", err=True)
    if counts["refused"]:
        raise typer.Exit(FAILED)


async def _with(use: Callable[[DeadLetters], Awaitable[Any]]) -> Any:
    async with _opened() as letters:
        return await use(letters)


@asynccontextmanager
async def _opened() -> AsyncIterator[DeadLetters]:
    from ..settings import Settings
    from ..store.dead_letters import DeadLetters
    from ..store.postgres import open_pools

    async with open_pools(Settings.load(), application="assessmentstore dead-letters") as pools:
        yield DeadLetters(pools.write)


def _one_way(names: Sequence[str] | None, everything: bool, *, filtered: bool) -> None:
    if bool(names) == everything or (names and filtered):
        raise typer.BadParameter("name dead letters, or take --all, which the filters narrow", param_hint="LETTER")


def _filters(partition: int | None, since: str | None, reason: str | None, state: _State) -> LetterFilters:
    from ..store.dead_letters import LetterFilters, LetterState

    wanted = None if state is _State.ALL else LetterState(state)
    return LetterFilters(partition=partition, since=instant(since, "--since"), reason=reason, state=wanted)


def _who(by: str | None) -> str:
    from ..dev.access import local_user

    return by or local_user()


def _brief(stored: StoredLetter) -> JsonObject:
    """What lists tell of one."""
    letter = stored.letter
    return {
        "id": stored.id,
        "partition": letter.partition,
        "offset": letter.offset,
        **_bytes("key", letter.key),
        "bytes": stored.size,
        "reason": stored.reason,
        "createdAt": stored.created_at,
        "state": stored.state,
        "redrivenFrom": letter.origin,
        "redrivenAt": stored.redriven_at,
        "redrivenBy": stored.redriven_by,
        "redrivenTo": stored.redriven_to,
        "droppedAt": stored.dropped_at,
        "droppedBy": stored.dropped_by,
        "dropReason": stored.drop_reason,
    }


def _bytes(name: str, content: bytes | None) -> JsonObject:
    """Bytes as text where that can be read, else as hexadecimal digits."""
    if content is None:
        return {name: None}
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return {f"{name}Hex": content.hex()}
    printable = all(character.isprintable() or character in "\n\r\t" for character in text)
    return {name: text} if printable else {f"{name}Hex": content.hex()}


def _outcome(outcome: Outcome) -> JsonObject:
    return {
        "letter": outcome.place,
        "did": outcome.did,
        "state": outcome.state,
        "to": outcome.to,
        "commandId": outcome.command_id,
        "why": outcome.why,
    }


def _sentence(outcome: Outcome) -> str:
    match outcome.did:
        case "redriven":
            return f"{outcome.place}: sent to {outcome.to} with the command id {outcome.command_id or '(none)'}"
        case "refused":
            return f"{outcome.place}: not sent: {outcome.why}"
        case "nothing":
            to = f" to {outcome.to}" if outcome.to else ""
            return f"{outcome.place}: {outcome.state}{to} before: --again sends it all the same"
    return f"{outcome.place}: {outcome.did}"
