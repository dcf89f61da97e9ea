"""The command `replay`: Postgres from Kafka, the caches from Postgres, Kafka from Postgres."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from ..output import measured, print_answer
from .session import Json, instant

if TYPE_CHECKING:
    from ..recovery.fold import Until

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()


@commands.command()
def replay(
    schema: Annotated[
        str | None, typer.Option(help="Build this schema beside the live one, and touch nothing else.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Into a schema: leave out what happened after this RFC 3339 time.")
    ] = None,
    until_offset: Annotated[
        list[str] | None,
        typer.Option(help="Into a schema: PARTITION:OFFSET, the command before which to stop; may repeat."),
    ] = None,
    caches: Annotated[
        bool, typer.Option("--caches", help="Fill Redis, and the tables of stopped workers, from Postgres.")
    ] = False,
    assessment: Annotated[
        list[str] | None,
        typer.Option(help="Write this assessment in Postgres anew from the log; may repeat.", show_default=False),
    ] = None,
    to_kafka: Annotated[
        bool, typer.Option("--to-kafka", help="Kafka is lost: fill its topics from the audit trail.")
    ] = False,
    json: Json = False,
) -> None:
    """Rebuild what was lost out of what is left.

    Without an option, an empty or restored Postgres is brought to where Kafka's topics say that it was. Workers have
    to be stopped. Nothing is published. What is broken off or killed goes on where it was when it is run again.
    docs/recovery.md has the drills.

    \b
    Example:
      assessmentstore replay
      assessmentstore replay --schema may --until 2026-05-01T00:00:00Z
      assessmentstore replay --assessment a1   # where verify says that its rows are not what the log says
    """
    from ..recovery import replay as ways
    from ..recovery.mend import mend
    from ..settings import Settings

    settings = Settings.load()
    if sum((schema is not None, caches, to_kafka, bool(assessment))) > 1:
        raise typer.BadParameter("--schema, --caches, --assessment and --to-kafka are different things: choose one")
    moment = _until(until, until_offset or [])
    if schema is None and not moment.is_end:
        raise typer.BadParameter("a moment of the past is built into a schema of its own: add --schema NAME")
    if caches:
        with measured("filling the caches", "assessments") as progress:
            answer = asyncio.run(ways.replay_caches(settings, progress))
    elif assessment:
        with measured("writing anew", "records") as progress:
            answer = asyncio.run(mend(settings, assessment, progress))
    elif to_kafka:
        with measured("filling the topics", "commands") as progress:
            answer = asyncio.run(ways.replay_to_kafka(settings, progress))
    elif schema is not None:
        with measured(f"building {schema}", "records") as progress:
            answer = asyncio.run(ways.replay_beside(settings, schema, moment, progress))
    else:
        with measured("rebuilding Postgres", "records") as progress:
            answer = asyncio.run(ways.replay_live(settings, progress))
    print_answer(answer, json)


def _until(until: str | None, offsets: list[str]) -> Until:
    from ..recovery.fold import Until

    places = dict(map(_place, offsets))
    if len(places) < len(offsets):
        raise typer.BadParameter("a partition is named twice: give one offset for each", param_hint="--until-offset")
    return Until(instant(until, "--until"), places)


def _place(text: str) -> tuple[int, int]:
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise typer.BadParameter(f"{text!r} is no PARTITION:OFFSET like 3:1200", param_hint="--until-offset")
    return int(partition), int(offset)
