"""The roll-out on a real Postgres: it goes on while all is well, holds on an alert, and takes itself back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from assessmentstore.legacy.controller import Controller, begin, signals_of
from assessmentstore.legacy.rollout import STEPS
from assessmentstore.legacy.verifying import is_complete
from assessmentstore.settings import Settings
from assessmentstore.store.divergences import Divergences
from assessmentstore.store.encryption import NO_KEYS
from assessmentstore.store.legacy_imports import LegacyImports, Quarantined
from assessmentstore.store.postgres import Pools
from assessmentstore.store.rollout import Figures, MigrationState, RolloutStore, Sample

WELL = Sample("web-1", requests=100, errors=0, seconds=1.0, healthy=True)


@pytest.fixture
def store(pools: Pools, settings: Settings) -> RolloutStore:
    return RolloutStore(pools.write, settings.commands_topic)


@pytest.fixture
def controller(store: RolloutStore, settings: Settings) -> Controller:
    """One whose window is an hour, and that looks whenever it is asked to."""
    drill = {"migration_check_interval": 1200.0, "migration_first_hold": 0.0, "migration_hold": 0.0}
    return Controller(store, settings.model_copy(update=drill))


async def look(controller: Controller, store: RolloutStore, pools: Pools) -> MigrationState:
    """A look that is due, and what it came to."""
    await pools.write.execute("UPDATE migration_state SET checked_at = NULL")
    await controller.look()
    return (await store.read()).state


async def saw(store: RolloutStore, pools: Pools, sample: Sample) -> None:
    """All that web processes saw of late."""
    await pools.write.execute("DELETE FROM migration_samples")
    await store.add_sample(sample)


async def test_it_takes_every_step_while_all_is_well_and_ends(
    controller: Controller, store: RolloutStore, pools: Pools
) -> None:
    await begin(store, "ann")
    await saw(store, pools, WELL)
    taken = [(await store.read()).state.percentage]
    while (state := await look(controller, store, pools)).phase == "ramping":
        taken.append(state.percentage)

    assert tuple(taken) == STEPS
    assert (state.phase, state.percentage, state.legacy_mode) == ("steady", 100, False)


async def test_an_alert_holds_the_step_until_it_is_gone(
    controller: Controller, store: RolloutStore, pools: Pools
) -> None:
    await begin(store, "ann")
    await saw(store, pools, WELL)
    await look(controller, store, pools)
    await saw(store, pools, WELL._replace(errors=8))

    held = await look(controller, store, pools)
    still = await look(controller, store, pools)
    await saw(store, pools, WELL)
    well = await look(controller, store, pools)

    assert (held.percentage, still.percentage) == (5, 5)
    assert held.held_because == "errorRate 0.08 > 0.05"
    assert still.well_since > held.well_since
    assert (well.percentage, well.held_because) == (10, None)


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (WELL._replace(errors=11), "errorRate"),
        (WELL._replace(seconds=1001.0), "responseTime"),
        (WELL._replace(healthy=False), "systemHealth"),
    ],
    ids=["errors", "slow", "unhealthy"],
)
async def test_a_trigger_takes_it_back(
    sample: Sample, why: str, controller: Controller, store: RolloutStore, pools: Pools
) -> None:
    await begin(store, "ann")
    await saw(store, pools, sample)

    state = await look(controller, store, pools)

    assert (state.phase, state.percentage, state.legacy_mode) == ("rolled_back", 0, True)
    last = (await store.history(1))[0]
    assert (last["by"], last["action"]) == ("controller", "rollback")
    assert why in last["reason"]


async def test_silence_of_all_webs_is_a_reason_too_but_not_right_at_the_beginning() -> None:
    nothing = Figures(0, 0, 0, 0.0, True, 0, 0, 0, 0)

    assert signals_of(nothing, expects_samples=False).unhealthy is None
    assert signals_of(nothing, expects_samples=True).unhealthy
    assert not signals_of(nothing._replace(samples=1), expects_samples=True).unhealthy


async def test_of_many_that_look_at_once_one_moves_the_step(
    controller: Controller, store: RolloutStore, pools: Pools
) -> None:
    await begin(store, "ann")
    await saw(store, pools, WELL)

    await asyncio.gather(*(controller.look() for _ in range(5)))

    assert (await store.read()).state.percentage == STEPS[1]


async def test_a_step_is_held_for_its_time(store: RolloutStore, settings: Settings, pools: Pools) -> None:
    patient = Controller(store, settings.model_copy(update={"migration_first_hold": 3600.0, "migration_hold": 7200.0}))
    await begin(store, "ann")
    await saw(store, pools, WELL)

    early = await look(patient, store, pools)
    await pools.write.execute("UPDATE migration_state SET well_since = NOW() - interval '61 minutes'")
    due = await look(patient, store, pools)
    await pools.write.execute("UPDATE migration_state SET well_since = NOW() - interval '61 minutes'")
    later = await look(patient, store, pools)

    assert (early.percentage, due.percentage, later.percentage) == (1, 5, 5)


async def test_samples_are_kept_only_while_there_is_a_roll_out(store: RolloutStore, pools: Pools) -> None:
    await store.add_sample(WELL)

    assert await pools.read.fetchval("SELECT count(*) FROM migration_samples") == 0


async def test_whoever_sets_the_share_ends_a_roll_out_that_goes_on_by_itself(store: RolloutStore) -> None:
    await begin(store, "ann")

    await store.set("ann", legacy_mode=None, percentage=50)
    state = (await store.read()).state
    await store.set("ann", legacy_mode=True, percentage=None)
    back = (await store.read()).state

    assert (state.phase, state.percentage, state.legacy_mode) == ("steady", 50, False)
    assert replace(back, updated_at=state.updated_at, well_since=state.well_since) == replace(state, legacy_mode=True)


async def test_what_is_put_aside_keeps_the_move_from_being_complete_until_somebody_decides(
    store: RolloutStore, pools: Pools
) -> None:
    imports, ledger = LegacyImports(pools.write, NO_KEYS), Divergences(pools.write, NO_KEYS)
    lines = [Quarantined(name, "export:1", "no", repr(name).encode()) for name in ("old-1", "old-2", None)]
    await imports.quarantine(lines)
    await imports.begin(b"broken off", "export", 4)

    settled = [await ledger.settle(["old-1"], "ann", "a test")]
    left, complete = (await store.read()).missing, [is_complete(await store.read())]
    settled.append(await ledger.settle(None, "ann", "nobody misses them"))
    complete.append(is_complete(await store.read()))

    assert (settled, left, complete) == ([1, 3], 2 + 4, [False, True])
    assert [(entry["action"], entry["reason"]) for entry in await store.history(2)] == [
        ("settle", "nobody misses them"),
        ("settle", "a test"),
    ]
