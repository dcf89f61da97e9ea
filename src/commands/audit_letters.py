"""The commands about records that the audit service refused: `audit letters list`, `redrive` and `drop`.

They work on Postgres and the audit service themselves, with the settings of the machine, as `migrate` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..output import print_rows
from .session import FAILED, Json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..settings import Settings
    from ..store.audit_letters import AuditLetter, AuditLetters

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_PAGE = 500

Names = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="As `list` tells them.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All open ones.")]
By = Annotated[str | None, typer.Option(help="Who decides so, for the record; else you.", show_default=False)]


@commands.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The most on a page.")] = 100,
    after: Annotated[int, typer.Option(min=0, metavar="ID", help="Go on after this one.")] = 0,
    json: Json = False,
) -> None:
    """List records that the audit service refused and that nobody has seen to, oldest first.

    \b
    Example:
      assessmentstore audit letters list --json
    """

    async def read() -> list[AuditLetter]:
        async with _opened() as (letters, _):
            return await letters.open(after, limit)

    page = asyncio.run(read())

    def table() -> RenderableType:
        from .views import audit_letters_table

        return audit_letters_table(page, more=len(page) == limit)

    print_rows(map(_told, page), table, json)


@commands.command()
def redrive(names: Names = None, everything: All = False, by: By = None) -> None:
    """Send refused records to the audit service again, as they were, under the same ids.

    Exit code: 0 the service has all of them, 1 it refused some again or is away.

    \b
    Example:
      assessmentstore audit letters redrive --all
    """
    _one_way(names, everything)

    async def work() -> int:
        from ..outward.audit import open_audit_service
        from ..outward.audit_log import AuditRecord

        refused = 0
        async with _opened() as (letters, settings), open_audit_service(settings) as service:
            async for letter in _chosen(letters, names):
                answer = await service.send(AuditRecord(letter.event_id, "", letter.record.encode()))
                if service.has(answer):
                    await letters.close(letter.id, _who(by))
                    typer.echo(f"{letter.event_id}: the service has it")
                else:
                    refused += 1
                    typer.echo(f"{letter.event_id}: not taken: {answer.words}")
        return refused

    if asyncio.run(work()):
        raise typer.Exit(FAILED)


@commands.command()
def drop(
    because: Annotated[str, typer.Option(metavar="TEXT", help="Why nothing is lost; kept with it.")],
    names: Names = None,
    everything: All = False,
    by: By = None,
) -> None:
    """Mark refused records as seen to, without sending them.

    \b
    Example:
      assessmentstore audit letters drop 7 --because "entered by hand"
    """
    _one_way(names, everything)

    async def work() -> None:
        async with _opened() as (letters, _):
            async for letter in _chosen(letters, names):
                await letters.close(letter.id, _who(by), because)
                typer.echo(f"{letter.event_id}: dropped")

    asyncio.run(work())


async def _chosen(letters: AuditLetters, names: list[int] | None) -> AsyncIterator[AuditLetter]:
    """The open ones that are named, or all."""
    after, missing = 0, set(names or ())
    while page := await letters.open(after, _PAGE):
        for letter in page:
            if not names or letter.id in missing:
                missing.discard(letter.id)
                yield letter
        after = page[-1].id
    for name in sorted(missing):
        typer.echo(f"{name}: no open record has this id", err=True)


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple[AuditLetters, Settings]]:
    from ..settings import Settings
    from ..store.audit_letters import AuditLetters
    from ..store.postgres import open_pools

    settings = Settings.load()
    async with open_pools(settings, application="assessmentstore audit letters") as pools:
        yield AuditLetters(pools.write), settings


def _one_way(names: list[int] | None, everything: bool) -> None:
    if bool(names) == everything:
        raise typer.BadParameter("name records by their ids, or take --all", param_hint="ID")


def _who(by: str | None) -> str:
    from ..dev.access import local_user

    return by or local_user()


def _told(letter: AuditLetter) -> dict[str, Any]:
    import orjson

    return {
        "id": letter.id,
        "eventId": letter.event_id,
        "reason": letter.reason,
        "createdAt": letter.created_at,
        "record": orjson.loads(letter.record) if letter.record.startswith("{") else letter.record,
    }
