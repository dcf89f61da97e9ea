"""Where a worker's batches spend their time, as its own metrics tell."""

from __future__ import annotations

from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_STEP_SUM = "assessmentstore_batch_step_seconds_sum"
_BATCH_SUM = "assessmentstore_batch_size_sum"
_BATCH_COUNT = "assessmentstore_batch_size_count"


@dataclass(frozen=True, slots=True)
class Steps:
    """Sums since the worker began, or between two readings."""

    commands: float = 0
    batches: float = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """By step, added up over the lanes: they work side by side, so that this is more than the time on the clock."""

    def __sub__(self, earlier: Steps) -> Steps:
        return Steps(
            self.commands - earlier.commands,
            self.batches - earlier.batches,
            {step: seconds - earlier.seconds.get(step, 0) for step, seconds in self.seconds.items()},
        )

    def __add__(self, other: Steps) -> Steps:
        names = self.seconds.keys() | other.seconds.keys()
        return Steps(
            self.commands + other.commands,
            self.batches + other.batches,
            {name: self.seconds.get(name, 0) + other.seconds.get(name, 0) for name in sorted(names)},
        )


async def read_steps(port: int) -> Steps:
    """Ask the worker; nothing where it does not tell."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as response:
        if response.status != 200:
            return Steps()
        return parse_steps(await response.text())


def parse_steps(text: str) -> Steps:
    """The steps in a Prometheus exposition."""
    totals: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _STEP_SUM:
                seconds[sample.labels["step"]] = sample.value
            elif sample.name in (_BATCH_SUM, _BATCH_COUNT):
                totals[sample.name] = sample.value
    return Steps(totals.get(_BATCH_SUM, 0), totals.get(_BATCH_COUNT, 0), seconds)
