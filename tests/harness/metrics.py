"""Whether the queries of the dashboard and of the alerts speak of metrics, labels and values that there are."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prometheus_client.parser import text_string_to_metric_families

from assessmentstore import telemetry

from .tools import DEPLOY, ROOT, find_tool, run_tool

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "assessmentstore.json"

# What Prometheus adds to what it reads, and the label of a histogram's buckets.
_ADDED = {"job", "instance", "le"}

_SELECTOR = re.compile(r"(assessmentstore_\w+)(?:\{([^}]*(?:\{\w+\}[^}]*)*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"by \(([^)]*)\)")


class Query(NamedTuple):
    """A query, and where it stands."""

    where: str
    expression: str


class Seen(NamedTuple):
    """What processes told of themselves."""

    names: set[str]
    """Of all metrics, those without a value too."""
    series: Mapping[str, list[dict[str, str]]]
    """The labels of each sample of a name."""


def alert_rules() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[Query]:
    """Every query of the dashboard, with the interval that Grafana puts in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        Query(panel["title"], target["expr"].replace("$__rate_interval", "5m"))
        for panel in panels
        for target in panel.get("targets", ())
    ]


def alert_queries() -> list[Query]:
    """The expression of every alert."""
    return [Query(rule["alert"], rule["expr"]) for rule in alert_rules()]


def read_scrapes(scrapes: Mapping[tuple[str, str], str]) -> Seen:
    """The metrics of processes, by job and instance."""
    names, series = set(), defaultdict(list)
    for (job, instance), text in scrapes.items():
        names |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                series[sample.name].append({**sample.labels, "job": job, "instance": instance})
    return Seen(names, series)


def faults(queries: Iterable[Query], seen: Seen) -> list[str]:
    """What is wrong with each query."""
    return [f"{query.where}: {fault}" for query in queries for fault in _faults_of(query.expression, seen)]


def unanswered(queries: Iterable[Query], seen: Seen, folder: Path) -> list[str]:
    """The queries that Prometheus answers with nothing, though there are series of all their metrics.

    Args:
        queries: are asked of series as those that were seen, each of which goes up.
        seen: in the processes.
        folder: for the question.
    """
    if find_tool("promtool") is None:
        return []
    askable = [query for query in queries if all(name in seen.series for name, _ in _selectors(query.expression))]
    assert askable, "no query is about anything that was seen"
    rows = [_series(name, labels) for name, found in seen.series.items() for labels in found]
    test = {"interval": "1m", "input_series": rows, "promql_expr_test": [_asked(query) for query in askable]}
    (folder / "asked.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    asked = run_tool("promtool", "test", "rules", "asked.yml", folder=folder)
    return [] if asked.returncode == 0 else [asked.stdout + asked.stderr]


def _faults_of(expression: str, seen: Seen) -> Iterator[str]:
    labels: set[str] = set()
    for name, matchers in _selectors(expression):
        if _family(name) not in seen.names and name not in seen.names:
            yield f"there is no metric {name}"
            continue
        own = _labels(name, seen)
        labels |= own
        for label, _, value in matchers:
            if label not in own:
                yield f"{name} has no label {label}"
            elif label not in _ADDED:
                yield from (f"{label}={one!r} is never said" for one in _values(value) if not _said(one, label, seen))
    for grouping in _GROUPING.findall(expression):
        yield from (f"nothing has the label {label}" for label in grouping.split(", ") if label not in labels)


def _selectors(expression: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    return [(name, _MATCHER.findall(matchers)) for name, matchers in _SELECTOR.findall(expression)]


def _family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


def _labels(name: str, seen: Seen) -> set[str]:
    """The labels of a metric: of its samples, or of its declaration where it has none yet."""
    found = {label for labels in seen.series.get(name, ()) for label in labels}
    if found:
        return found
    family = _family(name).removesuffix("_total")
    for metric in vars(telemetry).values():
        if family in (getattr(metric, "_name", None), f"{getattr(metric, '_name', None)}_total"):
            return {*metric._labelnames, *_ADDED}
    return set(_ADDED)


def _values(matched: str) -> list[str]:
    """The values that a matcher names, without those that are patterns."""
    return [value for value in matched.split("|") if not re.search(r"[.*+\[]", value)]


def _said(value: str, label: str, seen: Seen) -> bool:
    """Whether a label had this value, or the code has it as a text of its own."""
    if any(labels.get(label) == value for found in seen.series.values() for labels in found):
        return True
    return value.isdigit() or any(f'"{value}"' in file.read_text() for file in (ROOT / "src").rglob("*.py"))


def _series(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    told = ",".join(f"{label}={json.dumps(value)}" for label, value in labels.items())
    return {"series": f"{name}{{{told}}}", "values": "1+1x20"}


def _asked(query: Query) -> dict[str, Any]:
    answered = {"labels": "{}", "value": 1}
    return {"expr": f"count({query.expression}) > bool 0", "eval_time": "15m", "exp_samples": [answered]}
