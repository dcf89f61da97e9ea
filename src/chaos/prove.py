"""The proof that the judge has teeth: every sabotage has to make him say guilty, and without one he has to acquit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .page import page
from .plan import PARTS, Fault, Plan, make_plan, make_proof
from .run import SETTLE_SECONDS, Say, Stage, run
from .sabotages import BY_NAME, SABOTAGES, Sabotage
from .verdict import Verdict

# A worker that is broken may never get where the judge waits for it.
_PATIENCE_SECONDS = 10.0

_PROOF_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one sabotage."""

    name: str
    verdict: Verdict

    @property
    def as_it_should(self) -> bool:
        """Whether the judge said what he has to say."""
        return self.verdict.innocent is (self.name not in BY_NAME)


CONTROL = "(no sabotage)"


async def prove(stage: Stage, names: Sequence[str], seed: int, *, say: Say, tell: Callable[[Proof], None]) -> bool:
    """Run each sabotage, and once none under all their faults together; say whether the judge was always right."""
    wanted: Sequence[Sabotage | None] = [BY_NAME[name] for name in names] or [None, *SABOTAGES]
    right = True
    for sabotage in wanted:
        proof = await _prove(stage, sabotage, seed, say)
        right = right and proof.as_it_should
        tell(proof)
    return right


async def _prove(stage: Stage, sabotage: Sabotage | None, seed: int, say: Say) -> Proof:
    name = CONTROL if sabotage is None else sabotage.name
    faults = tuple(_all_faults()) if sabotage is None else sabotage.faults
    seconds = max(_PROOF_SECONDS, max((fault.at for fault in faults), default=0.0) + 1.0)
    plan = make_proof(seed, seconds, faults, PARTS if sabotage is None else sabotage.parts)
    patience = SETTLE_SECONDS if sabotage is None else _PATIENCE_SECONDS
    folder = stage.folder / (sabotage.name if sabotage else "no-sabotage")
    say(f"{name}: {plan.summary}")
    return Proof(name, await run_and_report(stage, plan, folder, sabotage=sabotage, patience=patience, say=say))


def _all_faults() -> Iterator[Fault]:
    """What the sabotages need, one after the other."""
    at = 1.0
    for faults in dict.fromkeys(sabotage.faults for sabotage in SABOTAGES if sabotage.faults):
        first, *_ = faults
        yield Fault(at, first.kind, first.target, first.seconds, first.detail)
        at += 2.5


async def run_and_report(
    stage: Stage,
    plan: Plan,
    folder: Path,
    *,
    sabotage: Sabotage | None = None,
    patience: float = SETTLE_SECONDS,
    say: Say,
) -> Verdict:
    """Run, and leave a page besides."""
    name = sabotage.name if sabotage else ""
    verdict, calls = await run(stage, plan, folder, sabotage=name, patience=patience, say=say)
    _write(folder / "report.html", page(verdict, calls, repeat=repeat(plan, name)))
    return verdict


def repeat(plan: Plan, sabotage: str) -> str:
    """The command that does it again."""
    if sabotage:
        return f"assessmentstore chaos run --seed {plan.seed} --sabotage {sabotage}"
    return f"assessmentstore chaos run --seed {plan.seed} --minutes {plan.seconds / 60:g}"


def plan_of(seed: int, minutes: float, sabotage: Sabotage | None) -> Plan:
    """The plan of a run, or the short one in which a sabotage shows."""
    if sabotage is None:
        return make_plan(seed, minutes * 60)
    return make_proof(seed, _PROOF_SECONDS, sabotage.faults, sabotage.parts)


def _write(file: Path, text: str) -> None:
    file.write_text(text)
