"""The command `verify`: whether every copy of every assessment says the same."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from ..output import for_people, measured, print_answer, print_json
from .session import Json

if TYPE_CHECKING:
    from ..models.comparison import Difference

# ruff: noqa: PLC0415 - everything slow is imported where it is used

_DIFFERENT = 1
_NOT_COMPARABLE = 2

# A request may be a megabyte; whoever wants all of it takes --json.
_LONGEST_VALUE = 120

commands = typer.Typer()


@commands.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Let caches forget what is wrong; Postgres is never touched.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare all copies of every assessment.

    That is the log in Kafka, Postgres, Redis, and the workers' tables on this machine. Everything may run meanwhile.
    Each difference is a line: store, partition, id, field, what it should be, what it is. The exit code is 0 where all
    is equal, 1 where something differs (or still does after --repair), and 2 where nothing differs but something could
    not be compared. docs/verify.md says what mends what.

    \b
    Example:
      assessmentstore verify
      assessmentstore verify --repair
    """
    from ..recovery.verify import verify as compare
    from ..settings import Settings

    settings = Settings.load()
    as_json = json or not for_people(sys.stdout)

    def tell(difference: Difference) -> None:
        if as_json:
            print_json(difference.to_wire())
        else:
            typer.echo(_line(difference))

    with measured("verifying", "records") as progress:
        findings, answer = asyncio.run(compare(settings, repair=repair, tell=tell, progress=progress))
    print_answer(answer, json)
    if findings.differences:
        raise typer.Exit(_DIFFERENT)
    if findings.not_comparable:
        raise typer.Exit(_NOT_COMPARABLE)


def _line(difference: Difference) -> str:
    pointer, expected, found = difference.field
    where = f"{difference.store:<8}  partition {difference.partition:<3}  {difference.assessment_id or '-'}"
    return f"{where}  {pointer or 'all of it'}  expected {_shown(expected)}  found {_shown(found)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
