"""The judges of what a run has besides: executor, webhooks, audit service, import, keys; each names every lie."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from assessmentstore.chaos.attempts import Attempts
from assessmentstore.chaos.auditor import Taken, is_unwanted
from assessmentstore.chaos.compliance import Key, Said
from assessmentstore.chaos.imports import judge_import, records
from assessmentstore.chaos.opening import check_sealed, opened
from assessmentstore.chaos.receiver import Delivery, Hook
from assessmentstore.chaos.told_audit import judge_audit
from assessmentstore.chaos.told_webhooks import judge_webhook
from assessmentstore.chaos.world import World
from assessmentstore.models.assessment import AssessmentRecord
from assessmentstore.models.events import AssessmentEvent, event_from_json
from assessmentstore.models.machine import evolve
from assessmentstore.models.webhooks import NewWebhook, message, message_id, signed_headers
from assessmentstore.outward.audit_log import audit_record
from assessmentstore.store.encryption import NO_KEYS, KeyRing

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOOK = UUID(int=7)
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
KEYS = KeyRing({"new": b"n" * 32, "old": b"o" * 32})


def event(version: int, name: str, state: str, previous: str | None, **members: Any) -> dict[str, Any]:
    return {
        "assessmentId": "a",
        "version": version,
        "type": f"assessment.{name}",
        "state": state,
        "previousState": previous,
        "progress": 100 if state == "completed" else 0,
        "message": None,
        "commandId": f"c{version}",
        "userId": "executor",
        "occurredAt": (NOW + timedelta(seconds=version)).isoformat(),
        **members,
    }


CREATED = event(1, "created", "pending", None, userId="ada", request={"assessmentType": "health", "userId": "ada"})
STARTED = event(2, "started", "processing", "pending")
COMPLETED = event(3, "completed", "completed", "processing", result={"note": "a:0:1"}, durationMs=1000)
FAILED = event(3, "failed", "failed", "processing", error="failed: no (compliance server x)")
CANCELLED = event(3, "cancelled", "cancelled", "processing", userId="ada", reason=None)
LIFE = [CREATED, STARTED, COMPLETED]


def world(*events: dict[str, Any], state: AssessmentRecord | None = None) -> World:
    """What a store with these events has."""
    found: AssessmentRecord | None = None
    rows = []
    for item in map(_event, events):
        found = evolve(found, item)
        rows.append(
            {
                "assessment_id": item.assessment_id,
                "action": item.type.removeprefix("assessment."),
                "new_version": item.version,
                "created_at": item.occurred_at,
                "details": item.to_json().decode(),
            }
        )
    states = {found.assessment_id: state or found} if found else {}
    return World({}, {}, {}, [], states, {"assessment_audit_trail": rows, "audit_dead_letters": []}, [], None)


def _event(item: dict[str, Any]) -> AssessmentEvent:
    return event_from_json(orjson.dumps(item))


def said(**changes: Any) -> Said:
    key = Key("a", 0)
    honest = Said(orders={key: 1}, results={key: {"a:0:1"}})
    return replace(honest, **changes)


def about_attempts(there: World, told: Said) -> str:
    told.results.setdefault(Key("a", 0), set())
    return "\n".join(Attempts(there, told).all_that_is_wrong())


def test_an_attempt_that_ends_as_its_server_said_is_right() -> None:
    assert about_attempts(world(*LIFE), said()) == ""


@pytest.mark.parametrize(
    ("events", "told", "words"),
    [
        ([CREATED], said(orders={}), "a is pending"),
        ([CREATED, STARTED], said(), "was started by the executor, and ended 0 times"),
        (LIFE, said(results={Key("a", 0): {"a:0:2"}}), "completed with 'a:0:1': its server never said so"),
        ([CREATED, STARTED, FAILED], said(), "its server never said so"),
        ([CREATED, STARTED, CANCELLED], said(results={}), "its server was never told"),
        ([CREATED, CANCELLED | {"version": 2, "previousState": "pending"}], said(), "which the executor never started"),
        ([CREATED, STARTED | {"userId": "ada"}, COMPLETED], said(orders={}), "made attempt 0 of a completed"),
    ],
)
def test_each_attempt_that_ends_otherwise_is_named(events: list[dict[str, Any]], told: Said, words: str) -> None:
    assert words in about_attempts(world(*events), told)


def hook(*taken: Delivery, **wanted: Any) -> Hook:
    webhook = NewWebhook(
        id=HOOK,
        owner="ada",
        url="http://x",
        event_types=None,
        assessment_id=None,
        description=None,
        created_at=NOW,
        disabled_at=None,
        disabled_reason=None,
        delivered=0,
        delivered_at=None,
        failing_since=None,
        last_error=None,
        secret=SECRET,
    )
    return Hook("ada", wanted, webhook, list(taken))


def delivery(item: dict[str, Any], *, secret: str = SECRET, name: str = "") -> Delivery:
    """The message about an event, as it should be."""
    body = message(orjson.loads(_event(item).to_json()))
    name = name or message_id(HOOK, "a", item["version"], datetime.fromisoformat(item["occurredAt"]))
    return Delivery(body, signed_headers(name, body, NOW, [secret]))


def about_webhook(found: Hook) -> str:
    return "\n".join(judge_webhook(found, world(*LIFE)))


def test_a_webhook_may_be_told_twice_under_the_same_id() -> None:
    first, second, third = map(delivery, LIFE)

    assert about_webhook(hook(first, second, first, second, third)) == ""
    assert about_webhook(hook(third, eventTypes=["assessment.completed"])) == ""
    assert about_webhook(hook(assessmentId="another")) == ""


@pytest.mark.parametrize(
    ("taken", "wanted", "words"),
    [
        (LIFE[:2], {}, "was never told of version 3"),
        ([LIFE[1], LIFE[0], LIFE[2]], {}, "version 1 of a after version 2"),
        (LIFE, {"eventTypes": ["assessment.completed"]}, "no event that it asked for"),
        ([*LIFE[:2], COMPLETED | {"durationMs": 7}], {}, "another body than its event"),
    ],
)
def test_a_webhook_that_is_told_otherwise_is_named(
    taken: list[dict[str, Any]], wanted: dict[str, Any], words: str
) -> None:
    assert words in about_webhook(hook(*map(delivery, taken), **wanted))


def test_a_signature_and_an_id_have_to_be_the_right_ones() -> None:
    forged = delivery(CREATED, secret="whsec_" + base64.b64encode(b"f" * 32).decode())

    assert "signature that is not its own" in about_webhook(hook(forged, *map(delivery, LIFE)))
    assert "no event that it asked for" in about_webhook(hook(*map(delivery, LIFE), delivery(CREATED, name="msg_1")))


def taken(item: dict[str, Any], keys: KeyRing = NO_KEYS, **changes: Any) -> Taken:
    """What the audit service takes of an event."""
    record = orjson.loads(audit_record(keys.seal_event(_event(item)).to_json()).body) | changes
    return Taken(record["id"], record)


def about_audit(*found: Taken, refused: str = "", keys: KeyRing = NO_KEYS) -> str:
    there = world(*LIFE)
    letters = [{"event_id": refused}] if refused else []
    tables = {**there.tables, "audit_dead_letters": letters}
    return "\n".join(judge_audit(found, replace(there, tables=tables), keys))


def test_the_audit_service_may_take_an_event_again_in_the_clear_or_sealed() -> None:
    assert about_audit(*map(taken, [*LIFE, CREATED])) == ""
    assert about_audit(*(taken(item, KEYS) for item in LIFE), keys=KEYS) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([taken(CREATED), taken(COMPLETED)], "was never told a:2"),
        ([taken(CREATED), taken(COMPLETED), taken(STARTED)], "version 2 of a after version 3"),
        ([*map(taken, LIFE), taken(CREATED, id="other")], "other, which is no event"),
        ([*map(taken, LIFE), taken(CREATED, actor="eve")], "was told a:1 as"),
    ],
)
def test_what_else_the_audit_service_is_told_is_named(found: list[Taken], words: str) -> None:
    assert words in about_audit(*found)


def test_what_the_audit_service_refused_for_good_is_a_dead_letter_and_nothing_else_is() -> None:
    assert not is_unwanted("a:2")
    assert "a:2 is a dead letter" in about_audit(taken(CREATED), taken(COMPLETED), refused="a:2")


def _imported(**changes: Any) -> dict[str, Any]:
    record = records(1)[2]
    names = ("createdAt", "updatedAt", "completedAt", "retryCount")
    told = event(1, "imported", "completed", None, assessmentId=record["assessmentId"], history=[])
    told |= dict.fromkeys(("error", "startedAt", "nextRetryAt"))
    return (
        told
        | {name: record[name] for name in names}
        | {"request": record["requestData"], "result": record["resultData"]}
        | changes
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"retryCount": 9}, "was imported with the retryCount 9"),
        ({"createdAt": NOW.isoformat()}, "was imported with the createdAt"),
        ({"result": {"overallScore": 99}}, "was imported with the resultData"),
        ({"assessmentId": "stranger"}, "stranger was imported, and is in no export"),
    ],
)
def test_an_import_has_each_line_once_as_it_was(changes: dict[str, Any], words: str) -> None:
    found = "\n".join(judge_import(records(1)[2:3], world(_imported(**changes))))

    assert words in found
    assert bool(found) == bool(words)


def test_a_line_that_is_not_there_is_named() -> None:
    assert "was imported 0 times" in "\n".join(judge_import(records(1)[:1], world()))


def test_what_rests_in_clear_or_under_the_old_key_is_named() -> None:
    clear = world(*LIFE)
    old = KeyRing({"old": b"o" * 32})
    sealed = {
        name: world(*(orjson.loads(keys.seal_event(_event(item)).to_json()) for item in LIFE))
        for name, keys in {"new": KEYS, "old": old}.items()
    }

    assert list(check_sealed(sealed["new"], KEYS)) == []
    assert "Postgres has the request of a in clear" in list(check_sealed(clear, KEYS))
    assert "the audit trail has the result of a under the key old, which is old" in list(
        check_sealed(sealed["old"], KEYS)
    )
    assert opened(sealed["old"], KEYS).states == clear.states
