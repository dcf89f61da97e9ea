"""The commands of the move from the old system: `legacy import`, `bridge`, `status`, `rollout`, `rollback`, `verify`,
`settle`.

They work on Postgres and Kafka themselves, with the settings of the machine, as `migrate` does: a rollback must not
depend on an API that is not well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..output import measured, print_answer, print_json, progress
from .session import FAILED, Json

if TYPE_CHECKING:
    from ..legacy.export import Export
    from ..legacy.results import FinalValidationResult, MigrationResult, ValidationResult
    from ..models.base import JsonObject
    from ..store.divergences import Divergences
    from ..store.legacy_imports import LegacyImports
    from ..store.rollout import RolloutStore

# ruff: noqa: PLC0415 - everything slow is imported where it is used

legacy = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
commands = typer.Typer()
commands.add_typer(legacy, name="legacy", help="Move from the old system, and back.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="The export, JSON lines.", exists=True, dir_okay=False, readable=True)
]
Report = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Where all that was found is written, as JSON.", dir_okay=False)
]

By = Annotated[str | None, typer.Option(help="Who decides so, for the record; else you.", show_default=False)]


@legacy.command("import")
def import_(
    file: File,
    report: Report = None,
    accept_errors: Annotated[
        bool, typer.Option("--accept-errors", help="Import although the check of the file finds errors.")
    ] = False,
) -> None:
    """Take over an export: states, results, original times and the audit log.

    The file is checked first, then sent in batches of 1,000, then held against what the store has. Twice is once, and
    a run that was broken off goes on where it was. What has an unknown state or is no assessment is put aside and
    told, never guessed.
    Exit code: 0 the check passed and all that is not put aside is in the store as it was there, 1 otherwise.

    \b
    Example:
      assessmentstore legacy import export.jsonl --report report.json
    """
    from ..legacy.export import Export

    with closing(Export(file)) as export:
        checked = _check(export)
        told: JsonObject = {"validation": checked.to_wire()}
        if checked.passed or accept_errors:
            done, final = asyncio.run(_import(export))
            told |= {"migration": done.to_wire(), "finalValidation": final.to_wire()}
            passed = final.passed and not done.errors
        else:
            passed = False
            typer.echo("Nothing was imported: correct the export, or repeat with --accept-errors", err=True)
    _tell(told, report)
    if not passed:
        raise typer.Exit(FAILED)


def _check(export: Export) -> ValidationResult:
    with measured("checking", "bytes") as done_so_far:
        done_so_far.expect(export.path.stat().st_size)
        return export.check(done_so_far.passed)


async def _import(export: Export) -> tuple[MigrationResult, FinalValidationResult]:
    from ..legacy.importing import Importer
    from ..legacy.topic import open_commands_topic
    from ..settings import Settings
    from ..store.divergences import Divergences
    from ..store.encryption import KeyRing
    from ..store.legacy_imports import LegacyImports
    from ..store.postgres import open_pools

    settings = Settings.load()
    keys = KeyRing.of(settings)
    async with open_pools(settings, application="import") as pools, open_commands_topic(settings) as topic:
        imports, ledger = LegacyImports(pools.write, keys), Divergences(pools.write, keys)
        importer = Importer(export, topic, imports, ledger, keys)
        with measured("importing", "assessments") as done_so_far:
            done = await importer.run(done_so_far)
        with measured("comparing", "assessments") as done_so_far:
            return done, await importer.verify(done_so_far)


@legacy.command()
def bridge() -> None:
    """Run the bridge to the old system, until it is told to stop.

    It takes events from the topic legacy.events, tells listeners of changes on legacy.notifications, compares what
    the old system reports with the store, and moves the roll-out. As many as one likes may run; each tells how it is at
    ASSESSMENTSTORE_BRIDGE_PORT: /health, /ready, /metrics.

    \b
    Example:
      assessmentstore legacy bridge
    """
    from .. import bootstrap
    from ..settings import Settings
    from ..telemetry import configure_logging

    settings = Settings.load()
    configure_logging(settings)
    raise typer.Exit(bootstrap.run_bridge(settings))


@legacy.command()
def status(json: Json = False) -> None:
    """Tell how far the move is, what is open, and what was decided last.

    \b
    Example:
      assessmentstore legacy status
    """
    print_answer(asyncio.run(_with_stores(_status)), json)


@legacy.command()
def rollout(
    percentage: Annotated[
        int | None, typer.Option(min=0, max=100, help="Set this share, and leave it there.", show_default=False)
    ] = None,
    by: By = None,
    json: Json = False,
) -> None:
    """Let the store serve ever more ids: 1, 5, 10, 25, 50, 75, 90, 95, 99, 100 %.

    Each step has to be without an alert for ASSESSMENTSTORE_MIGRATION_HOLD seconds; on a trigger it rolls back by
    itself. That needs a `legacy bridge` that runs.

    \b
    Example:
      assessmentstore legacy rollout
      assessmentstore legacy rollout --percentage 25
    """
    from ..legacy.controller import begin

    async def work(stores: Stores) -> JsonObject:
        if percentage is None:
            await begin(stores.rollout, by or _who())
        else:
            await stores.rollout.set(by or _who(), legacy_mode=False, percentage=percentage)
        return await _status(stores)

    print_answer(asyncio.run(_with_stores(work)), json)


@legacy.command()
def rollback(
    because: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; kept with it.", show_default=False)] = None,
    within: Annotated[float, typer.Option(min=0, help="Seconds to wait until the old system is told of all.")] = 60.0,
    by: By = None,
    json: Json = False,
) -> None:
    """Let the old system serve everything, from now on.

    Nothing is taken away from the store: what it wrote is told to the old system by the bridge.
    Exit code: 0 the old system is told of all, 1 not yet; the rollback stands in either case.

    \b
    Example:
      assessmentstore legacy rollback --because "errors since noon"
    """
    from ..legacy.verifying import roll_back_and_wait

    async def work(stores: Stores) -> JsonObject:
        return (await roll_back_and_wait(stores.rollout, by or _who(), because, within)).to_wire()

    answer = asyncio.run(_with_stores(work))
    print_answer(answer, json)
    if not answer["success"]:
        raise typer.Exit(FAILED)


@legacy.command()
def verify(
    export: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="FILE", help="Hold the store against this export.", exists=True, dir_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Tell whether both systems agree: the ledger, what is quarantined and what is not told; with a file, every record.

    Exit code: 0 nothing differs, 1 something does.

    \b
    Example:
      assessmentstore legacy verify --export export.jsonl
    """
    from ..legacy.export import Export
    from ..legacy.verifying import Checked
    from ..legacy.verifying import verify as compare

    with ExitStack() as stack:
        checked = None
        if export is not None:
            opened = stack.enter_context(closing(Export(export)))
            checked = Checked(opened, _check(opened))

        async def work(stores: Stores) -> JsonObject:
            return (await compare(stores.rollout, stores.imports, stores.ledger, checked)).to_wire()

        with progress("verifying"):
            answer = asyncio.run(_with_stores(work))
    print_answer(answer, json)
    if not answer["passed"]:
        raise typer.Exit(FAILED)


@legacy.command()
def settle(
    because: Annotated[str, typer.Option(metavar="TEXT", help="What was decided, and why; kept in the history.")],
    assessment_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="The assessments.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that is open; lines without an id and imports that were broken off, too.")
    ] = False,
    by: By = None,
    json: Json = False,
) -> None:
    """Mark open entries of the ledger, and lines of exports that are put aside, as decided.

    It is for what no command can bring into line, and for lines that nobody misses. With --all, imports that were
    broken off are given up, too.

    \b
    Example:
      assessmentstore legacy settle old-17 --because "the store is right: the old system lost the result"
    """
    if everything == bool(assessment_ids):
        raise typer.BadParameter("name assessments, or say --all")

    async def work(stores: Stores) -> JsonObject:
        return {"settled": await stores.ledger.settle(assessment_ids or None, by or _who(), because)}

    print_answer(asyncio.run(_with_stores(work)), json)


class Stores(NamedTuple):
    """What the commands work with."""

    rollout: RolloutStore
    imports: LegacyImports
    ledger: Divergences


async def _with_stores(work: Callable[[Stores], Awaitable[JsonObject]]) -> JsonObject:
    from ..settings import Settings
    from ..store.divergences import Divergences
    from ..store.encryption import KeyRing
    from ..store.legacy_imports import LegacyImports
    from ..store.postgres import open_pools
    from ..store.rollout import RolloutStore

    settings = Settings.load()
    keys = KeyRing.of(settings)
    async with open_pools(settings, application="legacy") as pools:
        rollout = RolloutStore(pools.write, settings.commands_topic)
        return await work(Stores(rollout, LegacyImports(pools.write, keys), Divergences(pools.write, keys)))


async def _status(stores: Stores) -> JsonObject:
    from ..legacy.verifying import status_of

    return await status_of(stores.rollout, stores.ledger)


def _who() -> str:
    from ..dev.access import local_user

    return local_user()


def _tell(told: JsonObject, report: Path | None) -> None:
    """Print what was found, or write it to a file and print where it is."""
    import orjson

    if report is None:
        return print_json(told)
    report.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    summary: dict[str, Any] = {name: _brief(part) for name, part in told.items()}
    return print_json(summary | {"report": str(report)})


def _brief(part: JsonObject) -> JsonObject:
    return {name: len(value) if isinstance(value, list) else value for name, value in part.items()}
