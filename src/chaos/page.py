"""The report of a run: one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .history import Call
from .timeline import legend, timeline
from .verdict import Verdict, recoveries

# A run that is wrong everywhere is told in its first words; verdict.json has all.
_MOST_SHOWN = 200

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --page: #fbfbfc; --card: #fff; --line: #e3e6eb;
  --green: #2f9e6b; --teal: #58b7c4; --amber: #e0a63a; --blue: #8fa7d8; --red: #d64545; --violet: #8b6fd0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ee; --soft: #98a2b3; --page: #14171d; --card: #1b1f27;
  --line: #2d333e; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 16px; margin: 0 0 10px; } p { margin: 6px 0; }
.soft { color: var(--soft); } code { font: 13px ui-monospace, monospace; }
.verdict { border-left: 6px solid var(--green); padding: 14px 18px; background: var(--card); border-radius: 6px; }
.guilty { border-color: var(--red); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 16px 18px;
  margin-top: 18px; overflow-x: auto; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 18px; }
.columns section { margin-top: 0; } .columns { margin-top: 18px; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 3px 14px 3px 0; vertical-align: top; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { width: 100%; min-width: 900px; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg text.inside { fill: #fff; font-size: 10.5px; pointer-events: none; }
.grid { stroke: var(--line); } .lane { stroke: var(--line); stroke-dasharray: 1 3; }
.pause { fill: var(--red); opacity: .10; } .wrong { stroke: var(--red); stroke-width: 2; }
.getting-ready { fill: var(--soft); opacity: .45; } .spread { stroke: var(--green); opacity: .45; }
.fault { rx: 2; fill: var(--violet); } .kill, .crash { fill: var(--red); } .stop, .freeze { fill: #4a6fc4; }
.restart { fill: #7a8699; } .slow { fill: #b98522; } .flush { fill: #c05299; } .join { fill: var(--green); }
.skew { fill: var(--violet); }
i.fill, i.fault, i.band { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 5px; }
.applied { fill: var(--green); background: var(--green); } .taken { fill: var(--teal); background: var(--teal); }
.refused { fill: var(--amber); background: var(--amber); } .read { fill: var(--blue); background: var(--blue); }
.unknown { fill: var(--red); background: var(--red); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 10px; color: var(--soft); font-size: 13px; }
i.band { background: var(--red); opacity: .25; }
"""


def page(verdict: Verdict, calls: Sequence[Call], *, repeat: str) -> str:
    """The whole page.

    Args:
        verdict: of the run.
        calls: its history.
        repeat: the command that does it again.
    """
    title = "innocent" if verdict.innocent else "guilty"
    band = '<span><i class="band"></i>no command was applied for a second or more</span>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Chaos, seed {verdict.plan.seed}: {title}</title><style>{_STYLE}</style></head><body><main>
{_head(verdict, calls)}
{_violations(verdict)}
<section><h2>Time line</h2>{timeline(verdict, calls)}<div class="legend">{legend()}{band}</div></section>
<div class="columns">
<section><h2>What was held against the truth</h2>{_counts(verdict.checked)}</section>
<section><h2>What clients were told</h2>{_counts(verdict.told)}
<p class="soft">Reads that insist on nothing may be old: {_old(verdict.notes)}</p></section>
</div>
<section><h2>Faults, and when commands were applied again</h2>{_faults(verdict, calls)}</section>
<section><h2>Do it again</h2><p><code>{escape(repeat)}</code></p>
<p class="soft">The same seed and length make the same plan (plan.json). Real time differs, the verdict should not.
Every call is a line of history.jsonl; the logs of workers and webs are beside it.</p></section>
</main></body></html>
"""


def _head(verdict: Verdict, calls: Sequence[Call]) -> str:
    checked = sum(verdict.checked.values())
    found = len(verdict.violations)
    words = "Nothing is wrong" if verdict.innocent else f"{found} violation{'s' if found > 1 else ''}"
    sabotage = f" Sabotaged on purpose: <code>{escape(verdict.sabotage)}</code>." if verdict.sabotage else ""
    return f"""<div class="verdict {"" if verdict.innocent else "guilty"}"><h1>{words}</h1>
<p>Seed {verdict.plan.seed}, {verdict.seconds:.0f} seconds, {len(verdict.happened)} faults, {len(calls)} calls,
{checked} comparisons.{sabotage}</p></div>"""


def _violations(verdict: Verdict) -> str:
    if verdict.innocent:
        return ""
    rows = (
        (f"{item.at:.1f} s" if item.at is not None else "", item.assessment, item.words)
        for item in verdict.violations[:_MOST_SHOWN]
    )
    more = len(verdict.violations) - _MOST_SHOWN
    rest = f"<p>… and {more} more, in verdict.json</p>" if more > 0 else ""
    return f"<section><h2>Violations</h2>{_table(('told at', 'assessment', 'what is wrong'), rows)}{rest}</section>"


def _counts(counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{count}</td></tr>' for name, count in sorted(counts.items())
    )
    return f"<table>{rows}</table>"


def _old(notes: Mapping[str, int]) -> str:
    old = notes.get("plain reads, older", 0)
    return f"{old} of {old + notes.get('plain reads', 0)} were older than what somebody had been told."


def _faults(verdict: Verdict, calls: Sequence[Call]) -> str:
    rows = []
    for item, recovery in zip(verdict.happened, recoveries(verdict.happened, calls), strict=True):
        fault, ready = item.fault, "" if item.ready is None else f"{item.ready - item.ended:.1f} s"
        stood = "never stood still" if recovery.seconds is None else f"{recovery.seconds:.1f} s"
        row = (
            f"{item.began:.1f} s",
            fault.kind,
            fault.target,
            fault.detail,
            f"{item.ended - item.began:.1f} s",
            ready,
            stood,
        )
        rows.append(row)
    heads = ("at", "fault", "whom", "", "lasted", "ready after", "applied again after")
    return _table(heads, rows)


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
