"""The sabotages by name: what each breaks, and the short run in which the judge has to notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .plan import Fault


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One guard that is taken away."""

    name: str
    where: str
    """worker, web, or worker and web."""
    breaks: str
    """What is broken, in a sentence."""
    faults: tuple[Fault, ...] = ()
    """What has to happen for it to show."""

    def broken(self, kind: str) -> str:
        """What is wrong with the workers, or with the webs: a name, or nothing."""
        return self.name if kind in self.where else ""


def _crashes(point: str) -> tuple[Fault, ...]:
    """Both workers die at a point, in full flow."""
    return tuple(
        Fault(1.5 + 2.5 * number, "crash", f"worker-{1 + number}", 2.0, f"{point}:{1 + 2 * number}")
        for number in range(2)
    )


_ZOMBIES = (Fault(1.5, "freeze", "worker-1", 4.5, "decoded:2"), Fault(2.5, "freeze", "worker-2", 5.0, "decoded:2"))
_WEB_DEATHS = (Fault(2.5, "kill", "web-1", 0.2), Fault(4.5, "kill", "web-2", 0.2))
_FROZEN_WORKERS = (Fault(2.0, "stop", "worker-1", 4.0), Fault(2.0, "stop", "worker-2", 4.0))

SABOTAGES = (
    Sabotage("no-version-check", "worker", "The version that a command insists on is not looked at."),
    Sabotage("no-duplicate-check", "worker", "Command ids that came before are taken for new."),
    Sabotage("no-fence", "worker", "A worker that lost its partition still writes.", _ZOMBIES),
    Sabotage("no-resume", "worker", "What was committed but not published is forgotten.", _crashes("committed")),
    Sabotage("position-first", "worker", "The position is committed before the batch.", _crashes("folded")),
    Sabotage("answer-before-commit", "worker", "Answers go out before the commit.", _crashes("written")),
    Sabotage("emit-before-commit", "worker", "Events go out before the commit.", _crashes("written")),
    Sabotage("emit-outside-transaction", "worker", "Events go out outside of the transaction.", _crashes("sent")),
    Sabotage("drop-junk", "worker", "What is no command is dropped without a word."),
    Sabotage(
        "no-catch-up",
        "worker",
        "A Redis that was away is not brought up to date.",
        (Fault(2.0, "stop", "redis", 2.5), Fault(6.0, "stop", "redis", 2.0)),
    ),
    Sabotage(
        "no-version-guard",
        "worker and web",
        "An older state may replace a newer one in Redis.",
        tuple(Fault(1.0 + 0.7 * number, "flush", "redis", 0.0) for number in range(12)),
    ),
    Sabotage("made-up-answer", "web", "Without a reply in time, the answer is made up.", _FROZEN_WORKERS),
    Sabotage(
        "accept-early",
        "web",
        "A command is accepted before Kafka has it.",
        (Fault(2.0, "stop", "kafka", 3.5), Fault(3.5, "kill", "web-1", 0.2), Fault(4.5, "kill", "web-2", 0.2)),
    ),
    Sabotage("ignore-token", "web", "The Consistency-Token is not looked at.", _FROZEN_WORKERS),
    Sabotage("ignore-min-version", "web", "minVersion is not looked at."),
    Sabotage("cache-forever", "web", "States that change are kept in the memory of a web."),
    Sabotage("wake-is-enough", "web", "A wait is over with the first change."),
    Sabotage("forget-the-key", "web", "The Idempotency-Key is not looked at."),
    Sabotage("ignore-if-match", "web", "If-Match is not looked at."),
    Sabotage("answer-with-now", "web", "A repeated command is answered with the present state."),
    Sabotage("streams-from-now", "web", "A stream that comes back leaves out what it missed.", _WEB_DEATHS),
)

BY_NAME = {sabotage.name: sabotage for sabotage in SABOTAGES}


def apply(names: Sequence[str]) -> None:
    """Break this process, which is about to become a worker or a web.

    Raises:
        KeyError: there is no such sabotage.
    """
    from . import sabotage_web, sabotage_worker  # noqa: PLC0415 - they import all that can be broken
    from .skew import skew  # noqa: PLC0415

    for name in names:
        kind, _, amount = name.partition("=")
        if kind == "skew":
            skew(float(amount))
            continue
        breakers = [module.BREAKERS[name] for module in (sabotage_worker, sabotage_web) if name in module.BREAKERS]
        if not breakers:
            raise KeyError(name)
        for breaker in breakers:
            breaker()
