"""The compliance server's judgement: which rules are broken by what was measured, and what that amounts to."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assessmentstore.compliance.checks import Checks
from assessmentstore.compliance.inspection import Inspection, checks_of
from assessmentstore.compliance.scope import Aspect, Scope
from assessmentstore.compliance.targets import Target
from assessmentstore.compliance.verdict import failure, issues, result, score
from assessmentstore.models.result import AssessmentResult, ConfigurationIssue, ServerStatus

NOW = datetime(2026, 1, 2, tzinfo=UTC)
URLS = {
    "kafka": "kafka://kafka.example.org:9092",
    "postgres": "postgresql://me:s3cret@db.example.org/a",
    "redis": "redis://:s3cret@cache.example.org:6379/0",
    "http": "http://www.example.org/health",
    "https": "https://www.example.org/health",
    "tls": "tls://www.example.org:443",
    "files": "file:///etc/example",
}
TARGETS = {name: Target.parse(f"{name}={url}") for name, url in URLS.items()}
LOCAL = {name: Target.parse(f"{name}={re.sub(r'[a-z]+.example.org', '127.0.0.1', url)}") for name, url in URLS.items()}
ALL = Scope(aspects=frozenset(Aspect), deep=True, details=True, report=False)
SEVERITIES = ["low", "medium", "high", "critical"]

NONE: dict[str, Any] = {"count": 0, "some": []}
ONE: dict[str, Any] = {"count": 1, "some": ["x"]}


def found(kind: str, facts: dict[str, Any], *, local: bool = False, scope: Scope = ALL) -> dict[str, str]:
    target = (LOCAL if local else TARGETS)[kind]
    told = list(issues(Inspection(target=target, facts=facts), scope))
    return {str(issue.id).partition(":")[2]: str(issue.severity) for issue in told}


@pytest.mark.parametrize(
    ("kind", "facts", "rule", "severity"),
    [
        ("kafka", {"offline": ONE}, "offline_partitions", "critical"),
        ("kafka", {"underReplicated": ONE}, "under_replicated_partitions", "high"),
        ("kafka", {"brokers": 1}, "brokers", "high"),
        ("kafka", {"default.replication.factor": 1}, "default.replication.factor", "high"),
        ("kafka", {"min.insync.replicas": 1}, "min.insync.replicas", "medium"),
        ("kafka", {"auto.create.topics.enable": True}, "auto.create.topics.enable", "medium"),
        ("kafka", {"unclean.leader.election.enable": True}, "unclean.leader.election.enable", "high"),
        ("kafka", {"topicsOfOneReplica": ONE}, "replication", "high"),
        ("kafka", {"topicsOfOneInSync": ONE}, "in_sync", "medium"),
        ("kafka", {"topicsWithoutSlack": ONE}, "slack", "medium"),
        ("kafka", {"tls": False}, "encryption", "high"),
        ("postgres", {"version": "13.9 (Debian)"}, "version", "high"),
        ("postgres", {"version": "13beta1"}, "version", "high"),
        ("postgres", {"authentication": False}, "authentication", "critical"),
        ("postgres", {"password_encryption": "md5"}, "password_encryption", "high"),
        ("postgres", {"fsync": "off"}, "fsync", "critical"),
        ("postgres", {"full_page_writes": "off"}, "full_page_writes", "high"),
        ("postgres", {"synchronous_commit": "off"}, "synchronous_commit", "medium"),
        ("postgres", {"trustingLines": ONE}, "trusting_lines", "high"),
        ("postgres", {"superuser": True}, "superuser", "medium"),
        ("postgres", {"connectionsUsed": 0.85}, "connections", "high"),
        ("postgres", {"connectionsUsed": 0.97}, "connections", "critical"),
        ("postgres", {"xidAge": 600_000_000}, "xid_age", "high"),
        ("postgres", {"xidAge": 1_600_000_000}, "xid_age", "critical"),
        ("postgres", {"log_connections": "off"}, "log_connections", "low"),
        ("postgres", {"log_min_duration_statement": "-1"}, "log_min_duration_statement", "low"),
        ("redis", {"version": "5.0.7"}, "version", "high"),
        ("redis", {"authentication": False}, "authentication", "critical"),
        ("redis", {"protected-mode": "no"}, "protected_mode", "high"),
        ("redis", {"limited": False}, "maxmemory", "medium"),
        ("redis", {"maxmemory-policy": "allkeys-lru", "persistent": True}, "maxmemory_policy", "medium"),
        ("redis", {"persistent": False}, "persistence", "medium"),
        ("redis", {"rdb_last_bgsave_status": "err"}, "rdb_last_bgsave_status", "critical"),
        ("redis", {"usersWithoutPassword": ONE}, "users_without_password", "high"),
        ("redis", {"memoryUsed": 0.95}, "memory_used", "high"),
        ("redis", {"memoryLeft": 0.05}, "memory", "high"),
        ("redis", {"diskLeft": 0.01}, "disk", "critical"),
        ("redis", {"responseTime": 150.0}, "response_time", "medium"),
        ("redis", {"responseTime": 1500.0}, "response_time", "high"),
        ("http", {"status": 404}, "status", "medium"),
        ("http", {"status": 503}, "status", "high"),
        ("http", {"tls": False}, "encryption", "high"),
        ("http", {"missingHeaders": ["referrer-policy"]}, "security_headers", "medium"),
        ("http", {"toldVersions": ["nginx/1.2"]}, "told_versions", "low"),
        ("https", {"looseCookies": ["session"]}, "loose_cookies", "medium"),
        ("https", {"daysLeft": 10.0, "validUntil": "x"}, "expiry", "high"),
        ("tls", {"daysLeft": -1.0, "validUntil": "x"}, "expiry", "critical"),
        ("tls", {"daysLeft": 20.0, "validUntil": "x"}, "expiry", "medium"),
        ("tls", {"rsaBits": 1024}, "key_size", "high"),
        ("tls", {"curveBits": 192}, "key_size", "high"),
        ("tls", {"signature": "sha1"}, "signature", "high"),
        ("tls", {"trusted": False, "selfSigned": True}, "trust", "high"),
        ("tls", {"trusted": False, "selfSigned": False}, "trust", "high"),
        ("tls", {"hostMatches": False}, "host_name", "high"),
        ("tls", {"oldProtocols": ["TLSv1"]}, "old_protocols", "high"),
        ("files", {"exposedSecrets": ONE}, "exposed_secrets", "critical"),
        ("files", {"defaultPasswords": ONE}, "default_passwords", "high"),
        ("files", {"weakTls": ONE}, "weak_tls", "high"),
        ("files", {"debugOn": ONE}, "debug", "medium"),
        ("files", {"passedOver": ONE}, "passed_over", "low"),
    ],
)
def test_each_thing_that_is_wrong_is_one_issue(kind: str, facts: dict[str, Any], rule: str, severity: str) -> None:
    assert found(kind, facts) == {rule: severity}


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (
            "kafka",
            {
                "brokers": 3,
                "offline": NONE,
                "underReplicated": NONE,
                "min.insync.replicas": 2,
                "default.replication.factor": 3,
                "auto.create.topics.enable": False,
                "topicsOfOneReplica": NONE,
                "authentication": True,
                "tls": True,
            },
        ),
        (
            "postgres",
            {
                "version": "16.4",
                "tls": True,
                "authentication": True,
                "superuser": False,
                "trustingLines": NONE,
                "fsync": "on",
                "full_page_writes": "on",
                "synchronous_commit": "local",
                "connectionsUsed": 0.2,
                "password_encryption": "scram-sha-256",
                "xidAge": 9,
                "log_connections": "on",
            },
        ),
        ("redis", {"version": "7.2", "limited": True, "persistent": True, "maxmemory-policy": "noeviction"}),
        ("https", {"status": 301, "tls": True, "missingHeaders": [], "looseCookies": [], "toldVersions": []}),
        ("tls", {"daysLeft": 60.0, "rsaBits": 2048, "signature": "sha256", "trusted": True, "selfSigned": True}),
        ("files", {"exposedSecrets": NONE, "defaultPasswords": NONE, "weakTls": NONE, "debugOn": NONE}),
    ],
    ids=lambda value: value if isinstance(value, str) else "sound",
)
def test_what_is_sound_has_no_issue_and_all_points(kind: str, facts: dict[str, Any]) -> None:
    item = Inspection(target=TARGETS[kind], facts=facts)

    verdict = result([item], [], ALL, NOW)

    assert verdict.configuration_issues == []
    assert (verdict.overall_score, verdict.compliant_servers, verdict.non_compliant_servers) == (100, 1, 0)


@pytest.mark.parametrize("kind", sorted(URLS))
def test_what_a_server_does_not_tell_is_no_issue(kind: str) -> None:
    assert found(kind, {}) == {}


def test_what_only_this_machine_reaches_is_judged_more_mildly() -> None:
    exposed = {"authentication": False, "tls": False}

    assert found("redis", exposed) == {"authentication": "critical", "encryption": "high"}
    assert found("redis", exposed, local=True) == {"authentication": "medium", "encryption": "low"}


@pytest.mark.parametrize("aspect", list(Aspect))
def test_only_the_aspects_that_were_asked_for_are_judged(aspect: Aspect) -> None:
    facts = {"memoryLeft": 0.0, "limited": False, "authentication": False}
    names = {Aspect.STATUS: "memory", Aspect.CONFIGURATION: "maxmemory", Aspect.SECURITY: "authentication"}

    told = found("redis", facts, scope=replace(ALL, aspects=frozenset({aspect})))

    assert list(told) == [names[aspect]]


def test_details_are_left_out_where_nobody_wants_them() -> None:
    item = Inspection(target=TARGETS["redis"], facts={"limited": False, "version": "7.2"})

    wire = result([item], [], replace(ALL, details=False), NOW).to_wire()

    assert wire["configurationIssues"][0]["details"] == {"address": "cache.example.org:6379"}
    assert wire["serverStatuses"][0]["metadata"] == {"address": "cache.example.org:6379", "kind": "redis"}


def test_what_could_not_be_looked_at_is_an_issue_of_its_own() -> None:
    item = Inspection(target=TARGETS["redis"], unchecked={"settings": "no permission"})

    (issue,) = issues(item, ALL)

    assert (issue.category, issue.severity) == ("unchecked", "medium")
    assert issue.description == "Not checked (settings): no permission"


def test_a_result_counts_servers_and_issues_and_averages_the_scores() -> None:
    sound = Inspection(target=TARGETS["redis"], facts={"version": "7.2"})
    away = Inspection(target=TARGETS["kafka"], error="Connection refused")

    verdict = result([sound, away], ["nobody"], ALL, NOW)

    assert (verdict.total_servers, verdict.compliant_servers) == (3, 1)
    assert verdict.missing_servers == ["kafka", "nobody"]
    assert verdict.overall_score == 33.3
    assert verdict.summary is not None
    assert (verdict.summary.critical_issues, verdict.summary.high_issues) == (1, 1)
    assert [status.status for status in verdict.server_statuses or []] == [ServerStatus.ONLINE, ServerStatus.OFFLINE]


def test_a_result_is_one_of_the_contract_and_tells_no_password() -> None:
    items = [Inspection(target=target, error="refused") for target in TARGETS.values()]

    wire = result(items, ["nobody"], replace(ALL, report=True), NOW).to_wire()

    assert AssessmentResult.model_validate_json(orjson.dumps(wire)).total_servers == len(TARGETS) + 1
    assert "s3cret" not in str(wire) + repr(items)


def test_a_report_has_the_most_urgent_first() -> None:
    item = Inspection(target=TARGETS["redis"], facts={"limited": False, "authentication": False})

    report = result([item], [], replace(ALL, report=True), NOW).report

    assert report is not None
    assert report.size == len((report.content or "").encode())
    told = orjson.loads(report.content or "")["toDo"]
    assert ["takes anybody" in line for line in told] == [True, False]


def test_an_assessment_fails_only_when_no_server_is_known_or_responds() -> None:
    away = Inspection(target=TARGETS["redis"], error="Connection refused")

    assert failure([Inspection(target=TARGETS["kafka"]), away], ["nobody"]) is None
    assert failure([away], ["nobody"]) == "redis at cache.example.org:6379: Connection refused"
    assert failure([], ["nobody", "x-*"]) == "No server is known here by the name of nobody, x-*"


# What holds whatever was measured.

FACTS = st.fixed_dictionaries(
    {},
    optional={
        "responseTime": st.floats(0, 1e5),
        "memoryLeft": st.floats(0, 1),
        "diskLeft": st.floats(0, 1),
        "authentication": st.booleans(),
        "tls": st.booleans(),
        "version": st.integers(1, 30).map(lambda major: f"{major}.1"),
        "limited": st.booleans(),
        "persistent": st.booleans(),
        "maxmemory-policy": st.sampled_from(["noeviction", "allkeys-lru"]),
        "protected-mode": st.sampled_from(["yes", "no"]),
        "memoryUsed": st.floats(0, 2),
        "usersWithoutPassword": st.sampled_from([NONE, ONE]),
    },
)
INSPECTIONS = st.builds(
    Inspection,
    target=st.sampled_from([TARGETS["redis"], LOCAL["redis"]]),
    error=st.none() | st.just("refused"),
    facts=FACTS,
    unchecked=st.dictionaries(st.sampled_from(["load", "users"]), st.just("denied")),
)


@given(st.lists(INSPECTIONS, min_size=1, max_size=5), st.lists(st.sampled_from(["a", "b"]), unique=True))
def test_servers_and_issues_add_up(items: list[Inspection], missing: list[str]) -> None:
    verdict = result(items, missing, ALL, NOW)

    summary = verdict.summary
    assert summary is not None
    counted = (summary.critical_issues, summary.high_issues, summary.medium_issues, summary.low_issues)
    assert verdict.total_servers == len(items) + len(missing)
    assert (verdict.compliant_servers or 0) + (verdict.non_compliant_servers or 0) == verdict.total_servers
    assert sum(count or 0 for count in counted) == len(verdict.configuration_issues or [])
    assert 0 <= (verdict.overall_score or 0) <= 100


@given(st.lists(INSPECTIONS, min_size=1, max_size=5), st.randoms())
def test_the_order_of_the_servers_does_not_matter(items: list[Inspection], random: Any) -> None:
    shuffled = random.sample(items, len(items))

    assert result(shuffled, [], ALL, NOW).overall_score == result(items, [], ALL, NOW).overall_score


@given(INSPECTIONS)
def test_an_issue_more_never_makes_a_score_better(item: Inspection) -> None:
    told = list(issues(item, ALL))

    scores = [score(item, told[:number]) for number in range(len(told) + 1)]

    assert scores == sorted(scores, reverse=True)


@given(INSPECTIONS, st.sampled_from(SEVERITIES), st.sampled_from(SEVERITIES))
def test_a_graver_issue_never_costs_less(item: Inspection, one: str, other: str) -> None:
    milder, graver = sorted((one, other), key=SEVERITIES.index)

    scores = [score(item, [ConfigurationIssue.model_validate({"severity": severity})]) for severity in (milder, graver)]

    assert scores[0] >= scores[1]


@given(FACTS, st.sets(st.sampled_from(list(Aspect))))
def test_to_look_at_more_never_makes_a_score_better(facts: dict[str, Any], aspects: set[Aspect]) -> None:
    item = Inspection(target=TARGETS["redis"], facts=facts)
    partly = replace(ALL, aspects=frozenset(aspects))

    assert score(item, issues(item, ALL)) <= score(item, issues(item, partly))


@pytest.mark.parametrize("kind", sorted(URLS))
def test_a_rule_is_never_graver_on_a_machine_of_its_own(kind: str) -> None:
    for rule in _checks(kind).rules:
        assert rule.locally is None or SEVERITIES.index(rule.locally) <= SEVERITIES.index(rule.severity), rule.name


def _checks(kind: str) -> Checks:
    return checks_of(TARGETS[kind])
