"""What is checked of a Kafka, by its admin protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule, machine, median_of, some
from .common import AUTHENTICATION, ENCRYPTION, RESOURCES, RESPONSE_TIME
from .kafka_access import kafka_access
from .scope import Aspect
from .targets import Target

_SETTINGS = (
    *("auto.create.topics.enable", "unclean.leader.election.enable", "default.replication.factor"),
    *("min.insync.replicas", "offsets.topic.replication.factor", "transaction.state.log.replication.factor"),
)
_NO_LEADER = -1


async def _brokers(target: Target) -> Facts:
    async with _admin(target) as admin:
        times = await median_of(admin.describe_cluster)
        return {**times, "brokers": len((await admin.describe_cluster())["brokers"])}


async def _partitions(target: Target) -> Facts:
    async with _admin(target) as admin:
        topics = await admin.describe_topics()
        settings = await _broker_settings(admin)
    lacking = [
        f"{topic['topic']}:{partition['partition']}"
        for topic in topics
        for partition in topic["partitions"]
        if len(partition["isr"]) < len(partition["replicas"])
    ]
    headless = [
        f"{topic['topic']}:{partition['partition']}"
        for topic in topics
        for partition in topic["partitions"]
        if partition["leader"] == _NO_LEADER
    ]
    folder = (settings.get("log.dirs") or settings.get("log.dir") or "").split(",")[0]
    return {"underReplicated": some(lacking), "offline": some(headless), **machine(target, folder)}


async def _settings(target: Target) -> Facts:
    async with _admin(target) as admin:
        settings = await _broker_settings(admin)
    listener, protocol = _listener(target, settings)
    certificate = settings.get(f"listener.name.{listener.lower()}.ssl.client.auth") or settings.get("ssl.client.auth")
    told = {name: _plain(settings[name]) for name in _SETTINGS if name in settings}
    return told | {
        "protocol": protocol,
        "authentication": protocol.startswith("SASL") or (protocol == "SSL" and certificate == "required"),
        "tls": protocol.endswith("SSL"),
    }


async def _topics(target: Target) -> Facts:
    """Topics of one replica, and those that confirm a write which only one replica has, or none once one is away."""
    async with _admin(target) as admin:
        topics = {
            topic["topic"]: min(len(partition["replicas"]) for partition in topic["partitions"])
            for topic in await admin.describe_topics()
            if topic["partitions"]
        }
        least = await _least_in_sync(admin, list(topics))
    several = {name: replicas for name, replicas in topics.items() if replicas > 1}
    return {
        "topicsOfOneReplica": some(list(topics.keys() - several.keys())),
        "topicsOfOneInSync": some([name for name in several if least.get(name) == 1]),
        "topicsWithoutSlack": some([name for name, replicas in several.items() if least.get(name, 1) >= replicas]),
    }


async def _least_in_sync(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> Mapping[str, int]:
    wanted = {"min.insync.replicas": None}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in topics]
    answers = await admin.describe_configs(resources) if resources else []
    return {
        name: int(value)
        for answer in answers
        for _, _, _, name, settings in answer.resources
        for _, value, *_ in settings
    }


async def _broker_settings(admin: AIOKafkaAdminClient) -> Mapping[str, str]:
    broker = (await admin.describe_cluster())["brokers"][0]
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, str(broker["node_id"]))])
    return {name: value for name, value, *_ in answer.resources[0][4] if value is not None}


def _listener(target: Target, settings: Mapping[str, str]) -> tuple[str, str]:
    """The name of the listener that we speak to, and its security protocol, like `SASL_SSL`."""
    names = {
        address.rpartition(":")[2]: address.partition(":")[0]
        for address in (settings.get("advertised.listeners") or settings.get("listeners", "")).split(",")
    }
    pairs = settings.get("listener.security.protocol.map", "").split(",")
    protocols = dict(pair.split(":") for pair in pairs if ":" in pair)
    name = names.get(target.address.split(",")[0].rpartition(":")[2], "")
    return name, protocols.get(name, "PLAINTEXT")


def _plain(value: str) -> int | bool | str:
    if value in {"true", "false"}:
        return value == "true"
    return int(value) if value.isdigit() else value


@asynccontextmanager
async def _admin(target: Target) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**kafka_access(target.url))
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


_CRITICAL, _HIGH = AssessmentSeverity.CRITICAL, AssessmentSeverity.HIGH
_MEDIUM, _LOW = AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW


def _partitions_that(name: str, fact: str, severity: AssessmentSeverity, *, words: str, advice: str) -> Rule:
    return Rule(
        name=name,
        category="availability",
        aspect=Aspect.STATUS,
        type=IssueType.PERFORMANCE_ISSUE,
        severity=severity,
        facts=(fact,),
        broken=lambda partitions: partitions["count"] > 0,
        words=words,
        advice=advice,
    )


def _topics_that(name: str, fact: str, severity: AssessmentSeverity, *, words: str, advice: str) -> Rule:
    return Rule(
        name=name,
        category="durability",
        aspect=Aspect.CONFIGURATION,
        type=IssueType.INVALID_CONFIG,
        severity=severity,
        locally=_LOW,
        facts=(fact,),
        broken=lambda topics: topics["count"] > 0,
        words=words,
        advice=advice,
    )


def _enabled(name: str, severity: AssessmentSeverity, category: str, words: str) -> Rule:
    return Rule(
        name=name,
        category=category,
        aspect=Aspect.CONFIGURATION,
        type=IssueType.INVALID_CONFIG,
        severity=severity,
        facts=(name,),
        broken=bool,
        words=words,
        advice=f"Set {name} to false.",
    )


def _replicas(name: str) -> Rule:
    return Rule(
        name=name,
        category="durability",
        aspect=Aspect.CONFIGURATION,
        type=IssueType.INVALID_CONFIG,
        severity=_HIGH,
        locally=_LOW,
        facts=(name,),
        broken=lambda replicas: replicas < 3,
        words=f"{name} is {{0}}: too few to lose a broker while another one is restarted.",
        advice=f"Run at least three brokers, and set {name} to 3.",
    )


KAFKA = Checks(
    looks=(
        Look(words="response time and brokers", ask=_brokers),
        Look(words="partitions", aspects=frozenset({Aspect.STATUS}), ask=_partitions),
        Look(words="settings", aspects=frozenset({Aspect.CONFIGURATION, Aspect.SECURITY}), ask=_settings),
        Look(words="topics", aspects=frozenset({Aspect.CONFIGURATION}), deep=True, ask=_topics),
    ),
    rules=(
        *RESPONSE_TIME,
        *RESOURCES,
        _partitions_that(
            "offline_partitions",
            "offline",
            _CRITICAL,
            words="Partitions without a leader, which nobody can read or write: {0[count]}.",
            advice="Start the brokers that hold them.",
        ),
        _partitions_that(
            "under_replicated_partitions",
            "underReplicated",
            _HIGH,
            words="Partitions with fewer replicas in sync than they should have: {0[count]}.",
            advice="Look for brokers that are away or slow.",
        ),
        Rule(
            name="brokers",
            category="availability",
            aspect=Aspect.CONFIGURATION,
            type=IssueType.INCOMPLETE_CONFIG,
            severity=_HIGH,
            locally=_LOW,
            facts=("brokers",),
            broken=lambda brokers: brokers < 3,
            words="Number of brokers: {0}. When one is away, so is what it alone holds.",
            advice="Run at least three brokers.",
        ),
        _replicas("default.replication.factor"),
        _replicas("offsets.topic.replication.factor"),
        _replicas("transaction.state.log.replication.factor"),
        Rule(
            name="min.insync.replicas",
            category="durability",
            aspect=Aspect.CONFIGURATION,
            type=IssueType.INVALID_CONFIG,
            severity=_MEDIUM,
            locally=_LOW,
            facts=("min.insync.replicas",),
            broken=lambda least: least < 2,
            words="min.insync.replicas is {0}: a write is confirmed that a single broker has.",
            advice="Set min.insync.replicas to 2, with three replicas.",
        ),
        _enabled(
            "auto.create.topics.enable", _MEDIUM, "topics", "A typing error in a topic's name creates a topic of it."
        ),
        _enabled(
            "unclean.leader.election.enable", _HIGH, "durability", "A replica that lacks confirmed records may lead."
        ),
        _topics_that(
            "replication",
            "topicsOfOneReplica",
            _HIGH,
            words="Topics with a single replica: {0[count]}.",
            advice="Give each topic three replicas with kafka-reassign-partitions.",
        ),
        _topics_that(
            "in_sync",
            "topicsOfOneInSync",
            _MEDIUM,
            words="Topics that confirm what a single replica has: {0[count]}.",
            advice="Set their min.insync.replicas to 2.",
        ),
        _topics_that(
            "slack",
            "topicsWithoutSlack",
            _MEDIUM,
            words="Topics that take no writes once a single replica is away: {0[count]}.",
            advice="Set their min.insync.replicas below the number of their replicas.",
        ),
        AUTHENTICATION,
        ENCRYPTION,
    ),
)
