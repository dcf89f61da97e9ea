"""The commands that bring chaos about, and judge what it did: `chaos run`, `plan`, `sabotages`, `prove`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..output import for_people

if TYPE_CHECKING:
    from ..chaos.plan import Plan
    from ..chaos.prove import Proof
    from ..chaos.run import Say
    from ..chaos.sabotages import Sabotage
    from ..chaos.verdict import Verdict

# ruff: noqa: PLC0415 - everything slow is imported where it is used

GUILTY = 1
_SHOWN = 10
_TO_BEGIN_AND_SETTLE = 35.0

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Seeds = Annotated[list[int] | None, typer.Option("--seed", help="What decides everything; may repeat.")]
Minutes = Annotated[float, typer.Option(min=0.1, max=1440, help="How long the load lasts.")]
Out = Annotated[Path | None, typer.Option(help="Where reports, histories and logs go; else below the data directory.")]


@commands.command()
def run(
    seed: Seeds = None,
    minutes: Minutes = 2.0,
    sabotage: Annotated[str | None, typer.Option(help="Break this guard: see `chaos sabotages`.")] = None,
    out: Out = None,
) -> None:
    """Run load under faults, and judge what everybody was told.

    Kafka, Postgres, Redis, workers and webs are started for it and ended with it; none that runs elsewhere is touched.
    The exit code is 0 where nothing is wrong. With --sabotage the run is the short one in which it has to show.

    \b
    Example:
      assessmentstore chaos run --seed 1 --minutes 2
    """
    from ..chaos.prove import plan_of

    broken = _sabotage(sabotage) if sabotage else None
    plans = [plan_of(number, minutes, broken) for number in seed or [1]]
    innocent = asyncio.run(_run(plans, broken, _folder(out)))
    raise typer.Exit(0 if innocent else GUILTY)


@commands.command()
def plan(seed: Seeds = None, minutes: Minutes = 2.0) -> None:
    """Print what a run would do, and do nothing.

    \b
    Example:
      assessmentstore chaos plan --seed 1 --minutes 2
    """
    from ..chaos.plan import make_plan

    for number in seed or [1]:
        made = make_plan(number, minutes * 60)
        typer.echo(made.summary)
        typer.echo("\n".join(map(str, made.faults)))


@commands.command()
def sabotages() -> None:
    """List what can be broken on purpose, to see the judge notice.

    \b
    Example:
      assessmentstore chaos sabotages
    """
    from ..chaos.sabotages import SABOTAGES

    for sabotage in SABOTAGES:
        typer.echo(f"{sabotage.name:<26} {sabotage.where:<16} {sabotage.breaks}")


@commands.command()
def prove(
    only: Annotated[list[str] | None, typer.Option(help="This sabotage; may repeat. All without.")] = None,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 1,
    out: Out = None,
) -> None:
    """Run every sabotage, and see that the judge notices each.

    Without a name he also has to acquit a run that is not sabotaged. The exit code is 0 where he is right every time.

    \b
    Example:
      assessmentstore chaos prove --only no-fence
    """
    names = [_sabotage(name).name for name in only or []]
    right = asyncio.run(_prove(names, seed, _folder(out)))
    raise typer.Exit(0 if right else GUILTY)


def _sabotage(name: str) -> Sabotage:
    from ..chaos.sabotages import BY_NAME

    if name not in BY_NAME:
        raise typer.BadParameter(f"{name} is not one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


def _folder(out: Path | None) -> Path:
    """A new folder for each call, so that no run writes over another."""
    import logging

    from ..settings import Settings

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    folder = (out or Settings.load().data_dir / "chaos").absolute() / stamp
    folder.mkdir(parents=True)
    # What the clients' libraries have to say of a broker that is away is for later.
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(filename=folder / "clients.log", format=form, force=True)
    return folder


async def _run(plans: list[Plan], sabotage: Sabotage | None, folder: Path) -> bool:
    from ..chaos.prove import run_and_report
    from ..chaos.run import open_stage, tidy

    innocent = True
    with _showing(sum(plan.seconds + _TO_BEGIN_AND_SETTLE for plan in plans)) as say:
        say("Kafka, Postgres and Redis")
        async with open_stage(folder) as stage:
            for plan in plans:
                say(plan.summary)
                where = folder / f"seed-{plan.seed}"
                verdict = await run_and_report(stage, plan, where, sabotage=sabotage, say=say)
                _tell(verdict, where, say)
                innocent = innocent and verdict.innocent
        if innocent:
            tidy(stage)
    return innocent


def _tell(verdict: Verdict, where: Path, say: Say) -> None:
    for violation in verdict.violations[:_SHOWN]:
        say(f"  {violation.assessment} {violation.words}")
    found, checked = len(verdict.violations), sum(verdict.checked.values())
    words = "innocent" if verdict.innocent else "GUILTY"
    say(f"seed {verdict.plan.seed}: {words}, {found} violations in {checked} comparisons: {where / 'report.html'}")


async def _prove(names: list[str], seed: int, folder: Path) -> bool:
    from ..chaos.prove import prove
    from ..chaos.run import open_stage, tidy
    from ..chaos.sabotages import SABOTAGES

    proofs: list[Proof] = []
    with _showing((len(names) or len(SABOTAGES) + 2) * _TO_BEGIN_AND_SETTLE) as say:
        async with open_stage(folder) as stage:
            right = await prove(stage, names, seed, say=say, tell=proofs.append)
        if right:
            tidy(stage)
    for proof in proofs:
        typer.echo(_line(proof))
    return right


def _line(proof: Proof) -> str:
    found = len(proof.verdict.violations)
    first = proof.verdict.violations[0].words[:100] if found else ""
    said = "innocent" if proof.verdict.innocent else f"guilty ({found})"
    return f"{proof.name:<26} {said:<14} {'as it should' if proof.as_it_should else 'WRONG':<13} {first}"


@contextmanager
def _showing(seconds: float) -> Iterator[Say]:
    """Show on standard error how far it is: a bar on a terminal, and lines elsewhere."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console, begin = Console(stderr=True, highlight=False), time.monotonic()
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, disable=not for_people(sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=seconds)

        def say(line: str) -> None:
            passed = time.monotonic() - begin
            progress.update(task, completed=passed, description=line[:60])
            console.print(f"{passed:7.1f} s  {line}", markup=False, soft_wrap=True)

        yield say
