"""Alerts fire when they should and not otherwise, and each has a page that says what to do."""

from __future__ import annotations

import re

import yaml
from tests.harness.metrics import alert_rules
from tests.harness.tools import DEPLOY, ROOT, run_tool

RULES = alert_rules()
FOLDER = DEPLOY / "prometheus"


def test_each_alert_fires_and_is_quiet_where_it_should() -> None:
    tested = run_tool("promtool", "test", "rules", "alerts.test.yml", folder=FOLDER)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_case_of_both_kinds() -> None:
    cases = {test["name"]: test for test in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]}

    for rule in RULES:
        for how, expected in (("fires", 1), ("is quiet", 0)):
            (question,) = cases[f"{rule['alert'].removeprefix('AssessmentStore')} {how}"]["promql_expr_test"]
            assert f'alertname="{rule["alert"]}"' in question["expr"]
            assert len(question["exp_samples"]) == expected


def test_prometheus_takes_its_configuration() -> None:
    checked = run_tool("promtool", "check", "config", "prometheus.yml", folder=FOLDER)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_says_how_bad_it_is_and_has_a_runbook() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        page = (ROOT / rule["annotations"]["runbook_url"]).read_text()
        headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
        assert headings == [rule["alert"], "What it means", "What to look at", "What to do"]


def test_no_runbook_is_of_an_alert_that_is_gone() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")}

    assert pages - {"README"} == {rule["alert"] for rule in RULES}
