"""The roll-out that goes on by itself: it holds on an alert, and takes itself back on a trigger."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from ..settings import Settings
from ..store.rollout import Checking, Decision, Figures, MigrationState, Phase, RolloutStore
from .rollout import STEPS, Baseline, Signals, judge, next_step, rate

logger = logging.getLogger(__name__)

ACTOR = "controller"

# A trigger is seen within two looks, and what is looked at is never a moment alone.
_WINDOW_LOOKS = 3

# Often enough that a look is never late by much of its interval.
_LOOKS_A_TURN = 4


class Controller:
    """Looks at the figures, and moves the share; of many, one looks at a time."""

    def __init__(self, store: RolloutStore, settings: Settings) -> None:
        self._store = store
        self._interval = settings.migration_check_interval
        self._first_hold = timedelta(seconds=settings.migration_first_hold)
        self._hold = timedelta(seconds=settings.migration_hold)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval / _LOOKS_A_TURN)

    async def look(self) -> None:
        """Look once, where it is time.

        Raises:
            UnavailableError: Postgres is away.
        """
        async with self._store.checking(self._interval) as checking:
            if checking is not None:
                await self._check(checking)

    async def _check(self, checking: Checking) -> None:
        window = self._interval * _WINDOW_LOOKS
        figures = await checking.figures(window)
        state = checking.state
        silent_since = state.begun_at or state.updated_at
        signals = signals_of(figures, expects_samples=checking.now - silent_since > timedelta(seconds=window))
        verdict = judge(signals, Baseline(*state.baseline))
        if verdict.triggers:
            reason = "; ".join(verdict.triggers)
            logger.error("The roll-out is taken back: %s", reason, extra={"action": "migration_rolled_back"})
            await checking.decide(Decision(ACTOR, "rollback", True, 0, Phase.ROLLED_BACK, reason, signals.to_wire()))
        elif verdict.alerts:
            reason = "; ".join(verdict.alerts)
            logger.warning("The roll-out is held: %s", reason, extra={"action": "migration_held"})
            await checking.hold(reason)
        else:
            await checking.hold(None)
            await self._advance(checking, state, signals)
        await checking.done(signals.error_rate, signals.response_ms)

    async def _advance(self, checking: Checking, state: MigrationState, signals: Signals) -> None:
        hold = self._first_hold if state.percentage <= STEPS[0] else self._hold
        if checking.now - state.well_since < hold:
            return
        step = next_step(state.percentage)
        phase, action = (Phase.STEADY, "complete") if step is None else (Phase.RAMPING, "advance")
        share = state.percentage if step is None else step
        logger.info("The store serves %d %% from now on", share, extra={"action": f"migration_{action}"})
        await checking.decide(Decision(ACTOR, action, False, share, phase, None, signals.to_wire()))


def signals_of(figures: Figures, *, expects_samples: bool) -> Signals:
    """What figures say.

    Args:
        figures: of late.
        expects_samples: whether a web process should have told something by now.
    """
    unhealthy = None
    if not figures.healthy:
        unhealthy = "a web process is not healthy"
    elif not figures.samples and expects_samples:
        unhealthy = "no web process tells how it is"
    enough = rate(0, figures.requests) is not None
    return Signals(
        error_rate=rate(figures.errors, figures.requests),
        response_ms=figures.seconds / figures.requests * 1000 if enough else None,
        failure_rate=rate(figures.failed, figures.failed + figures.completed),
        inconsistency=rate(figures.inconsistent, max(figures.compared, figures.inconsistent)),
        unhealthy=unhealthy,
    )


async def begin(store: RolloutStore, actor: str) -> None:
    """Begin the roll-out at its first step, or go on where it stands."""
    state = (await store.read()).state
    share = state.percentage if 0 < state.percentage < STEPS[-1] and not state.legacy_mode else STEPS[0]
    await store.change(Decision(actor, "rollout", False, share, Phase.RAMPING))


async def roll_back(store: RolloutStore, actor: str, reason: str | None) -> None:
    """Let the old system serve everything, from now on."""
    await store.change(Decision(actor, "rollback", True, 0, Phase.ROLLED_BACK, reason))
