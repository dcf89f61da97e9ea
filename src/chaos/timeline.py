"""The time line of a run as SVG: faults as bars, what clients were told, how long it took, and when nothing moved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from statistics import quantiles

from .evidence import Violation
from .faults import Happened
from .history import Call, Kind, Told
from .plan import JOINER, SERVICES, WEBS, WORKERS
from .verdict import Verdict, pauses

_WIDTH, _LEFT, _RIGHT = 1200, 92, 12
_LANE, _CHART, _GAP = 20, 110, 30
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
_MOST_TICKS = 14

# What is answered faster than this is not told apart.
_QUICKEST, _SLOWEST = 0.002, 30.0
_DECADES = (0.01, 0.1, 1.0, 10.0)

_SERIES: tuple[tuple[str, str, Callable[[Call], bool]], ...] = (
    ("applied", "applied", lambda call: call.kind is Kind.COMMAND and call.told is Told.OK),
    ("taken by Kafka", "taken", lambda call: call.told is Told.TAKEN),
    ("refused", "refused", lambda call: call.kind is Kind.COMMAND and call.told is Told.REFUSED),
    ("reads, lists, waits", "read", lambda call: call.kind in (Kind.READ, Kind.LIST, Kind.WAIT) and _is_definite(call)),
    ("no definite answer", "unknown", lambda call: call.told is Told.UNKNOWN),
)


@dataclass(frozen=True)
class _Scale:
    """Where a second is."""

    seconds: float

    def x(self, seconds: float) -> float:
        """Seconds since the load began, as a place."""
        share = min(max(seconds / self.seconds, 0.0), 1.0)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)


def timeline(verdict: Verdict, calls: Sequence[Call]) -> str:
    """Draw it."""
    scale = _Scale(max(verdict.seconds, 1.0))
    lanes = [*WORKERS, JOINER, *WEBS, *SERVICES, *verdict.plan.parts]
    faults = len(lanes) * _LANE
    rates, times = faults + _GAP, faults + _CHART + 2 * _GAP
    height = times + _CHART + _GAP
    parts = [
        *_pauses(scale, calls, height),
        *_ticks(scale, height),
        *_lanes(scale, lanes, verdict.happened),
        *_rates(scale, calls, rates),
        *_times(scale, calls, times),
        *_marks(scale, verdict.violations, height),
    ]
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="time line">{"".join(parts)}</svg>'


def legend() -> str:
    """What the colours of the answers mean."""
    return "".join(f'<span><i class="fill {name}"></i>{words}</span>' for words, name, _ in _SERIES)


def _is_definite(call: Call) -> bool:
    return call.told is not Told.UNKNOWN


def _pauses(scale: _Scale, calls: Sequence[Call], height: float) -> Iterator[str]:
    for pause in pauses(calls):
        title = f"no command was applied for {pause.end - pause.begin:.1f} s"
        begin = scale.x(pause.begin)
        yield _box("pause", begin, 0, scale.x(pause.end) - begin, height - _GAP, title)


def _ticks(scale: _Scale, height: float) -> Iterator[str]:
    step = next((tick for tick in _TICKS if scale.seconds / tick <= _MOST_TICKS), _TICKS[-1])
    for second in range(0, int(scale.seconds) + 1, step):
        x = scale.x(second)
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height - _GAP}"/>'
        yield _text(x, height - _GAP + 15, f"{second // 60}:{second % 60:02}", "middle")


def _lanes(scale: _Scale, lanes: Sequence[str], happened: Sequence[Happened]) -> Iterator[str]:
    for number, name in enumerate(lanes):
        y = number * _LANE
        yield _text(_LEFT - 8, y + 14, name, "end")
        yield f'<line class="lane" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + _LANE}" y2="{y + _LANE}"/>'
        for item in happened:
            if item.fault.target == name:
                yield from _bar(scale, item, y)


def _bar(scale: _Scale, item: Happened, y: float) -> Iterator[str]:
    fault, x = item.fault, scale.x(item.began)
    detail = f", {fault.detail}" if fault.detail else ""
    title = f"{fault.kind} {fault.target}{detail}: {item.began:.1f} s to {item.ended:.1f} s"
    width = max(scale.x(item.ended) - x, 3)
    if item.ready is not None and item.ready > item.ended:
        ready = f"{fault.target} is ready again at {item.ready:.1f} s"
        yield _box("getting-ready", x, y + 8, scale.x(item.ready) - x, 4, ready)
    yield _box(f"fault {fault.kind}", x, y + 3, width, _LANE - 6, title)
    label = fault.kind + (f" {fault.detail}" if fault.detail else "")
    if width > 6.2 * len(label):
        yield f'<text class="inside" x="{x + 4}" y="{y + 14}">{escape(label)}</text>'


def _rates(scale: _Scale, calls: Sequence[Call], top: float) -> Iterator[str]:
    """Answers of each second, one sort upon the other."""
    yield _text(_LEFT, top - 8, "answers a second", "start")
    bins = int(scale.seconds) + 1
    counts = [_per_second((call for call in calls if wanted(call)), bins) for _, _, wanted in _SERIES]
    most = max(map(sum, zip(*counts, strict=True)), default=1) or 1
    yield _text(_LEFT - 8, top + 8, str(most), "end")
    width = max(scale.x(1) - scale.x(0) - 0.5, 0.8)
    for second in range(bins):
        y = top + _CHART
        for (_, name, _), count in zip(_SERIES, counts, strict=True):
            if count[second]:
                height = count[second] / most * _CHART
                y -= height
                yield _box(f"fill {name}", scale.x(second), y, width, height)


def _per_second(calls: Iterable[Call], bins: int) -> list[int]:
    counts = [0] * bins
    for call in calls:
        second = int(call.completed)
        if 0 <= second < bins:
            counts[second] += 1
    return counts


def _times(scale: _Scale, calls: Sequence[Call], top: float) -> Iterator[str]:
    """How long it took until a command was told to be applied: the median, and the slowest twentieth."""
    yield _text(_LEFT, top - 8, "time until a command was applied: median, and up to the slowest twentieth", "start")
    for seconds in _DECADES:
        y = top + _height_of(seconds)
        label = f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield _text(_LEFT - 8, y + 4, label, "end")
    taken: dict[int, list[float]] = {}
    for call in calls:
        if call.kind is Kind.COMMAND and call.told is Told.OK:
            taken.setdefault(int(call.completed), []).append(call.completed - call.invoked)
    for second, times in taken.items():
        x = scale.x(second + 0.5)
        middle, slow = _median_and_slow(times)
        yield f'<line class="spread" x1="{x}" x2="{x}" y1="{top + _height_of(middle)}" y2="{top + _height_of(slow)}"/>'
        title = f"{len(times)} commands: median {middle * 1000:.0f} ms, 95 % within {slow * 1000:.0f} ms"
        y = top + _height_of(middle)
        yield f'<circle class="fill applied" cx="{x}" cy="{y}" r="2"><title>{title}</title></circle>'


def _median_and_slow(times: Sequence[float]) -> tuple[float, float]:
    if len(times) == 1:
        return times[0], times[0]
    cuts = quantiles(times, n=20, method="inclusive")
    return cuts[9], cuts[18]


def _height_of(seconds: float) -> float:
    """How far down a time is, by its logarithm."""
    share = math.log(max(seconds, _QUICKEST) / _QUICKEST) / math.log(_SLOWEST / _QUICKEST)
    return round(_CHART * (1 - min(share, 1.0)), 1)


def _marks(scale: _Scale, violations: Sequence[Violation], height: float) -> Iterator[str]:
    for violation in violations:
        if violation.at is not None:
            x = scale.x(violation.at)
            title = escape(f"{violation.assessment}: {violation.words}")
            yield f'<line class="wrong" x1="{x}" x2="{x}" y1="0" y2="{height - _GAP}"><title>{title}</title></line>'


def _box(name: str, x: float, y: float, width: float, height: float, title: str = "") -> str:
    told = f"<title>{escape(title)}</title>" if title else ""
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" {size}>{told}</rect>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
