"""The sabotages by name: what each breaks, and the short run in which the judge has to notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .plan import AUDITED, BRIDGED, IMPORTED, SEALED, SERVED, TOLD, Fault


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One guard that is taken away."""

    name: str
    where: str
    """worker, web, worker and web, import, or bridge."""
    breaks: str
    """What is broken, in a sentence."""
    faults: tuple[Fault, ...] = ()
    """What has to happen for it to show."""
    parts: tuple[str, ...] = ()
    """What the run has to have besides."""

    def broken(self, kind: str) -> str:
        """What is wrong with the workers, the webs, the import or the bridge: a name, or nothing."""
        return self.name if kind in self.where else ""


def _crashes(point: str) -> tuple[Fault, ...]:
    """Both workers die at a point, in full flow."""
    return tuple(
        Fault(1.5 + 2.5 * number, "crash", f"worker-{1 + number}", 2.0, f"{point}:{1 + 2 * number}")
        for number in range(2)
    )


def _freezes(point: str) -> tuple[Fault, ...]:
    """Both workers stop at a point, and go on when their partitions have long been taken."""
    return Fault(1.5, "freeze", "worker-1", 4.5, point), Fault(2.5, "freeze", "worker-2", 5.0, point)


_ZOMBIES = _freezes("decoded:2")
_WEB_DEATHS = (Fault(2.5, "kill", "web-1", 0.2), Fault(4.5, "kill", "web-2", 0.2))
_WORKER_DEATHS = (Fault(4.0, "kill", "worker-1", 0.2), Fault(6.0, "kill", "worker-2", 0.2))
_FROZEN_WORKERS = (Fault(2.0, "stop", "worker-1", 4.0), Fault(2.0, "stop", "worker-2", 4.0))

SABOTAGES = (
    Sabotage("no-version-check", "worker", "The version that a command insists on is not looked at."),
    Sabotage("no-duplicate-check", "worker", "Command ids that came before are taken for new."),
    Sabotage("no-fence", "worker", "A worker that lost its partition still writes.", _ZOMBIES),
    Sabotage("no-producer-fence", "worker", "A producer of before may still publish.", _freezes("sent:2")),
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
    Sabotage("seal-nothing", "worker", "Payloads rest as they came.", parts=(SEALED,)),
    Sabotage("forget-old-keys", "worker and web", "Only the newest key is known.", parts=(SEALED,)),
    Sabotage(
        "forget-old-fingerprints",
        "worker and web",
        "A command is not recognised any more once the key has changed.",
        parts=(SEALED,),
    ),
    Sabotage("no-attempt-check", "worker", "A command is taken whichever attempt it is meant for."),
    Sabotage(
        "forget-attempts",
        "worker",
        "A worker follows the attempts that it began itself alone.",
        _WORKER_DEATHS,
        (SERVED,),
    ),
    Sabotage("made-up-result", "worker", "A server that does not answer has completed it.", parts=(SERVED,)),
    Sabotage("forget-before-told", "worker", "A message leaves the queue before it is sent.", parts=(TOLD,)),
    Sabotage("sign-something-else", "worker", "A message is signed for another body.", parts=(TOLD,)),
    Sabotage("new-message-ids", "worker", "Each attempt to tell has an id of its own.", parts=(TOLD,)),
    Sabotage(
        "audit-position-first",
        "worker",
        "Events are acknowledged before the audit service has them.",
        _WORKER_DEATHS,
        (AUDITED,),
    ),
    Sabotage("audit-ids-anew", "worker", "Each attempt to forward an event has an id of its own.", parts=(AUDITED,)),
    Sabotage("audit-all-at-once", "worker", "Events of one assessment do not wait for each other.", parts=(AUDITED,)),
    Sabotage("audit-without-letters", "worker", "What the audit service refuses is dropped.", parts=(AUDITED,)),
    Sabotage("bridge-position-first", "bridge", "Legacy events are committed before they are taken.", parts=(BRIDGED,)),
    Sabotage("bridge-told-first", "bridge", "The old system counts as told before it is.", parts=(BRIDGED,)),
    Sabotage("bridge-tells-back", "bridge", "The old system is told what it told itself.", parts=(BRIDGED,)),
    Sabotage("import-position-first", "import", "An import keeps its position before the batch.", parts=(IMPORTED,)),
    Sabotage("streams-from-now", "web", "A stream that comes back leaves out what it missed.", _WEB_DEATHS),
)

BY_NAME = {sabotage.name: sabotage for sabotage in SABOTAGES}


def apply(names: Sequence[str]) -> None:
    """Break this process, which is about to become a worker, a web or an import.

    Raises:
        KeyError: there is no such sabotage.
    """
    from .haste import hurry  # noqa: PLC0415 - what is not broken is not imported
    from .skew import skew  # noqa: PLC0415

    for name in names:
        kind, _, amount = name.partition("=")
        if kind == "skew":
            skew(float(amount))
            continue
        if kind == "hurry":
            hurry()
            continue
        breakers = [module[name] for module in breakers_by_module() if name in module]
        if not breakers:
            raise KeyError(name)
        for breaker in breakers:
            breaker()


def breakers_by_module() -> Sequence[Mapping[str, Callable[[], None]]]:
    """Every way to break something, by name; importing them imports all that can be broken."""
    from . import sabotage_bridge, sabotage_executor, sabotage_keys, sabotage_outward, sabotage_web, sabotage_worker  # noqa: PLC0415

    modules = (sabotage_worker, sabotage_web, sabotage_keys, sabotage_executor, sabotage_outward, sabotage_bridge)
    return [module.BREAKERS for module in modules]
