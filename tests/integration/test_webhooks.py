"""Webhooks on a real Postgres: who is told what, in which order, and what becomes of it when nobody listens."""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks.webhooks import Webhook
from tests.harness.receivers import Receiver, Script, Sent, answering, hanging, receiving, well
from tests.harness.streams import Author, an_author
from tests.harness.waiting import eventually

from assessmentstore.chaos.messages import Message, command, create
from assessmentstore.models.events import EventType
from assessmentstore.models.targets import Targets
from assessmentstore.models.webhooks import NewWebhook, WebhookRequest, new_secret
from assessmentstore.outward import webhooks
from assessmentstore.outward.webhooks import open_sender, telling
from assessmentstore.settings import Settings, networks
from assessmentstore.store import deliveries
from assessmentstore.store.deliveries import Delivery, DeliveryQueues, LeasedWebhook
from assessmentstore.store.encryption import NO_KEYS, KeyRing, generate
from assessmentstore.store.postgres import Pool, Pools
from assessmentstore.store.rotation import Rotation
from assessmentstore.store.webhooks import MOST_OF_ONE_OWNER, WebhookStore

LOCAL = "127.0.0.0/8"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in short; of the two pauses that of the webhook rules."""
    monkeypatch.setattr(webhooks, "SCHEDULE", (0.01,) * 200)
    monkeypatch.setattr(webhooks, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(webhooks, "_LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(webhooks, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(webhooks, "_ANSWER_SECONDS", 2.0)


@pytest.fixture
def pool(pools: Pools) -> Pool:
    return pools.write


@pytest.fixture
async def author(settings: Settings) -> AsyncIterator[Author]:
    async with an_author(settings) as author:
        yield author


@asynccontextmanager
async def worker(settings: Settings, pool: Pool, keys: KeyRing | None = None) -> AsyncIterator[None]:
    queues = DeliveryQueues(pool, settings.commands_topic, *([keys] if keys else []))
    async with telling(queues, LOCAL):
        yield


async def register(
    pool: Pool, url: str, *, owner: str = "ann", sees_everything: bool = False, keys: KeyRing = NO_KEYS, **wanted: Any
) -> NewWebhook:
    request = WebhookRequest(url=url, **wanted)
    made = await WebhookStore(pool, keys).put(uuid4(), owner, request, new_secret(), sees_everything=sees_everything)
    assert made is not None
    return made


def life(key: str, progress: int = 2, *, user: str = "ann") -> list[Message]:
    """Four commands and the reports on progress: as many versions."""
    reports = [command(f"{key}-p{n}", "progress", key, {"progress": n}, userid=user) for n in range(progress)]
    return [
        create(f"{key}-create", key, userid=user),
        command(f"{key}-start", "start", key, userid=user),
        *reports,
        command(f"{key}-end", "complete", key, {"result": {"overallScore": 97}}, userid=user),
    ]


def told(sent: Sequence[Sent]) -> dict[str, list[int]]:
    """The versions of each assessment, in the order in which they came first."""
    found: dict[str, list[int]] = defaultdict(list)
    for one in sent:
        data = one.body["data"]
        if data["version"] not in found[data["assessmentId"]]:
            found[data["assessmentId"]].append(data["version"])
    return found


async def all_told(receiver: Receiver, wanted: dict[str, int]) -> None:
    """Wait until every version was taken; they came in order."""

    async def probe() -> bool:
        return {key: len(versions) for key, versions in told(receiver.taken).items()} == wanted

    await eventually(probe, f"{wanted} with the webhook")
    assert all(versions == sorted(versions) for versions in told(receiver.taken).values())


async def rows(pool: Pool, what: str = "count(*)") -> Any:
    return await pool.fetchval(f"SELECT {what} FROM webhook_deliveries")


async def test_a_webhook_is_told_what_its_owner_may_see_from_now_on_signed(
    settings: Settings, pool: Pool, author: Author
) -> None:
    await author.apply(*life("before"))
    async with worker(settings, pool), receiving() as owner, receiving() as oversight, receiving() as ends:
        hook = await register(pool, owner.url)
        await register(pool, oversight.url, owner="root", sees_everything=True)
        await register(pool, ends.url, event_types=[EventType.COMPLETED], assessment_id="a1")
        await author.apply(*life("a1"), *life("b1", user="bob"), *life("a2"))

        await all_told(owner, {"a1": 5, "a2": 5})
        await all_told(oversight, {"a1": 5, "a2": 5, "b1": 5})
        await all_told(ends, {"a1": 1})
        # What was taken is noted after the answer, and counted at the end of a turn.
        await queues_empty(pool)
        await eventually(lambda: _delivered(pool, hook.id, 10), "ten deliveries to be counted")
    for sent in owner.taken:
        assert Webhook(hook.secret).verify(sent.raw, sent.headers) == sent.body
    (completed,) = ends.taken
    assert completed.body["type"] == "assessment.completed"
    assert completed.body["timestamp"] == completed.body["data"]["occurredAt"]
    assert completed.body["data"]["result"] == {"overallScore": 97}
    shown = await WebhookStore(pool).get(hook.id)
    assert shown is not None
    assert shown.last_error is None


async def _delivered(pool: Pool, number: UUID, count: int) -> bool:
    shown = await WebhookStore(pool).get(number)
    return shown is not None and shown.delivered == count


async def test_while_nobody_is_registered_no_row_is_written(settings: Settings, pool: Pool, author: Author) -> None:
    async with worker(settings, pool):
        await author.apply(*life("a1"), *life("a2"))

        await all_passed(pool)
    assert await rows(pool, "COALESCE(max(id), 0)") == 0
    assert await pool.fetchval("SELECT last_value FROM webhook_deliveries_id_seq") == 1


async def all_passed(pool: Pool) -> None:
    """Wait until every event was looked at."""
    behind = """
        SELECT count(*) FROM command_offsets AS fence LEFT JOIN webhook_positions AS done USING (partition)
        WHERE done.next_offset IS DISTINCT FROM fence.next_offset
    """

    async def probe() -> bool:
        return bool(await pool.fetchval(behind) == 0)

    await eventually(probe, "positions at the end")


async def queues_empty(pool: Pool) -> None:
    """Wait until nothing waits."""

    async def probe() -> bool:
        return bool(await rows(pool) == 0)

    await eventually(probe, "empty queues")


def sometimes(script: Script) -> Script:
    """Fail at every third version the first two times."""

    async def answer(sent: Sent) -> web.StreamResponse:
        return await (script if sent.body["data"]["version"] % 3 == 0 and sent.before < 2 else well)(sent)

    return answer


@pytest.mark.parametrize("status", [302, 400, 429, 500])
async def test_what_is_not_taken_is_sent_again_under_its_id(
    settings: Settings, pool: Pool, author: Author, status: int
) -> None:
    async with receiving(Receiver(sometimes(answering(status, Retry_After="0")))) as receiver:
        await register(pool, receiver.url)
        async with worker(settings, pool):
            await author.apply(*life("a1", 4), *life("a2", 4), *life("a3", 4))
            await all_told(receiver, {"a1": 7, "a2": 7, "a3": 7})

    names = defaultdict(set)
    for sent in receiver.sent:
        names[sent.raw].add(sent.headers["webhook-id"])
    assert len(receiver.sent) > len(names) == 21
    assert all(len(found) == 1 for found in names.values())
    assert len(set.union(*names.values())) == 21


async def test_a_restart_loses_nothing_and_keeps_the_order(settings: Settings, pool: Pool, author: Author) -> None:
    async def then_trouble(sent: Sent) -> web.StreamResponse:
        return await (hanging if len(receiver.taken) >= 9 else well)(sent)

    async with receiving(Receiver(then_trouble)) as receiver:
        await register(pool, receiver.url)
        async with worker(settings, pool):
            await author.apply(*life("a1", 4), *life("a2", 4), *life("a3", 4))

            async def probe() -> bool:
                return receiver.at_once > 0 and len(receiver.taken) >= 9

            await eventually(probe, "a webhook that hangs")
        receiver.script = well
        async with worker(settings, pool), worker(settings, pool):
            await all_told(receiver, {"a1": 7, "a2": 7, "a3": 7})


async def test_a_webhook_that_hangs_or_is_down_keeps_nobody_else_waiting(
    settings: Settings, pool: Pool, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_ANSWER_SECONDS", 3600.0)  # nobody gives up the one that hangs, and asks once more
    store = WebhookStore(pool)
    async with receiving(Receiver(hanging)) as stuck, receiving() as fine:
        await register(pool, stuck.url)
        await register(pool, "http://127.0.0.1:1/hook")
        await register(pool, fine.url)
        async with worker(settings, pool):
            await author.apply(*(message for number in range(12) for message in life(f"a{number}", 0)))
            await all_told(fine, {f"a{number}": 3 for number in range(12)})
            assert len(stuck.taken) == 0
            assert stuck.most_at_once <= 4

            async def fails() -> bool:
                listed = (await store.page("ann", 10)).webhooks
                return listed[1].failing_since is not None and "Connect call failed" in (listed[1].last_error or "")

            await eventually(fails, "the one that is down to be told as failing")


async def test_one_that_is_gone_is_switched_off_and_may_be_resumed(
    settings: Settings, pool: Pool, author: Author
) -> None:
    store = WebhookStore(pool)
    async with receiving(Receiver(answering(410))) as receiver, worker(settings, pool):
        hook = await register(pool, receiver.url)
        await author.apply(*life("a1"))
        await eventually(lambda: _disabled(store, hook.id), "switched off")
        shown = await store.get(hook.id)
        assert shown is not None
        assert (shown.disabled_reason, shown.last_error) == ("gone", "410: as the script says")
        await author.apply(*life("missed"))
        await all_passed(pool)
        asked = len(receiver.sent)
        waiting = await store.deliveries(hook.id)
        assert [delivery.version for delivery in waiting] == [1, 2, 3, 4, 5]
        assert (waiting[0].last_status, waiting[0].attempts) == (410, 1)

        receiver.script = well
        await store.resume(hook.id)
        await all_told(receiver, {"a1": 5})
    assert asked == 1


async def test_one_that_fails_for_days_or_has_too_much_waiting_is_switched_off(
    settings: Settings, pool: Pool, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = WebhookStore(pool)
    async with receiving(Receiver(answering(500))) as receiver, worker(settings, pool):
        failing = await register(pool, receiver.url, event_types=[EventType.CREATED])
        await author.apply(*life("a1"))
        monkeypatch.setattr(deliveries, "FAILING_SECONDS", 0.05)
        await eventually(lambda: _disabled(store, failing.id), "switched off")
        monkeypatch.setattr(deliveries, "FAILING_SECONDS", 1000.0)
        monkeypatch.setattr(deliveries, "MOST_QUEUED", 2)
        full = await register(pool, receiver.url)
        await author.apply(*life("a2"))
        await eventually(lambda: _disabled(store, full.id), "switched off")

    reasons = [webhook.disabled_reason for webhook in (await store.page(None, 10)).webhooks]
    assert reasons == ["failing", "queue_full"]


async def _disabled(store: WebhookStore, number: UUID) -> bool:
    shown = await store.get(number)
    return shown is not None and shown.disabled_at is not None


async def test_a_message_that_is_never_taken_is_given_up_and_the_others_go_on(
    settings: Settings, pool: Pool, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def poisoned(sent: Sent) -> web.StreamResponse:
        return await (answering(400) if sent.body["data"]["version"] == 2 else well)(sent)

    monkeypatch.setattr(webhooks, "SCHEDULE", (0.01, 0.01))
    store = WebhookStore(pool)
    async with receiving(Receiver(poisoned)) as receiver, worker(settings, pool):
        hook = await register(pool, receiver.url)
        await author.apply(*life("a1"))
        await all_told(receiver, {"a1": 4})

        async def alone() -> Any:
            """What was taken is forgotten after the answer."""
            waiting = await store.deliveries(hook.id)
            return waiting[0] if len(waiting) == 1 else None

        given_up = await eventually(alone, "the one that was given up to be left")
        assert (given_up.version, given_up.attempts, given_up.last_status) == (2, 3, 400)
        assert given_up.given_up_at is not None

        receiver.script = well
        await store.resume(hook.id)

        async def probe() -> bool:
            return len(receiver.taken) == 5

        await eventually(probe, "what was given up")


async def test_a_secret_is_rotated_with_two_signatures_and_a_test_message_is_sent(
    settings: Settings, pool: Pool
) -> None:
    store = WebhookStore(pool)
    async with receiving() as receiver, worker(settings, pool):
        hook = await register(pool, receiver.url)
        new = new_secret()
        for _ in range(2):
            rotated = await store.rotate(hook.id, new)
            assert rotated is not None
            assert rotated.secret == new
        await store.try_out(hook.id)

        async def probe() -> bool:
            return len(receiver.taken) == 1

        await eventually(probe, "the test message")
    (sent,) = receiver.taken
    assert sent.body["type"] == "webhook.test"
    for secret in (hook.secret, new):
        assert Webhook(secret).verify(sent.raw, sent.headers) == sent.body


async def test_sealed_secrets_sign_survive_a_rotation_and_without_their_key_fail_alone(
    settings: Settings, pool: Pool, author: Author
) -> None:
    k1, k2 = generate("k1"), generate("k2")
    old, both, new = KeyRing.parse(k1), KeyRing.parse(f"{k2},{k1}"), KeyRing.parse(k2)
    async with receiving() as sealed, receiving() as clear:
        before_keys = await register(pool, clear.url)
        hook = await register(pool, sealed.url, keys=old)
        await author.apply(*life("a1"))
        async with worker(settings, pool, new):
            await all_told(clear, {"a1": 5})

            async def probe() -> str | None:
                found = await WebhookStore(pool).get(hook.id)
                return found.last_error if found else None

            error = str(await eventually(probe, "the webhook that cannot be signed for"))
        assert "its secret cannot be opened" in error
        assert "encrypted under the key 'k1', which is not configured here" in error
        assert sealed.sent == []
        assert before_keys.secret in await stored_secrets(pool)
        assert hook.secret not in await stored_secrets(pool)

        told: list[str] = []
        done = await Rotation(pool, both).run(told.append)
        assert (done.resealed, done.unreadable, done.passed_over) == (2, 0, 0)
        assert any(line.startswith("webhooks: 2 looked at") for line in told)
        counted = await Rotation(pool, both).count()
        assert {key: count for key, count in counted.items() if key[0] == "webhooks"} == {("webhooks", "k2"): 2}
        assert before_keys.secret not in await stored_secrets(pool)
        async with worker(settings, pool, new):
            await all_told(sealed, {"a1": 5})
            await author.apply(*life("a2"))
            await all_told(clear, {"a1": 5, "a2": 5})
    assert Webhook(hook.secret).verify(sealed.taken[-1].raw, sealed.taken[-1].headers)
    assert Webhook(before_keys.secret).verify(clear.taken[-1].raw, clear.taken[-1].headers)


async def stored_secrets(pool: Pool) -> str:
    return " ".join(row["secret"] for row in await pool.fetch("SELECT secret FROM webhooks"))


async def test_payloads_are_opened_for_whoever_may_see_them(settings: Settings, pool: Pool, author: Author) -> None:
    ring = KeyRing.parse(generate("k1"))
    seal = """
        UPDATE assessment_audit_trail SET details = jsonb_set(details, '{result}', $1::jsonb) WHERE action = 'completed'
    """
    async with receiving() as receiver:
        await register(pool, receiver.url)
        await author.apply(*life("a1"))
        await pool.execute(seal, orjson.dumps(ring.seal("a1", {"overallScore": 12})).decode())
        async with worker(settings, pool, ring):
            await all_told(receiver, {"a1": 5})

    assert receiver.taken[-1].body["data"]["result"] == {"overallScore": 12}


async def test_what_retention_deletes_is_told_no_more(settings: Settings, pool: Pool, author: Author) -> None:
    async with receiving() as receiver:
        await register(pool, receiver.url, sees_everything=True)
        queues = DeliveryQueues(pool, settings.commands_topic)
        await author.apply(*life("a1"), *life("a2"))
        while await queues.fill():
            pass
        await pool.execute("DELETE FROM assessment_audit_trail WHERE assessment_id = 'a1' AND new_version = 2")
        async with worker(settings, pool):
            await all_told(receiver, {"a1": 4, "a2": 5})
            await queues_empty(pool)


async def test_many_events_are_queued_window_by_window(
    settings: Settings, pool: Pool, author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_WINDOW", 3)
    await register(pool, "http://127.0.0.1:1/")
    queues = DeliveryQueues(pool, settings.commands_topic)
    await author.apply(*life("a1", 6), *life("a2", 6))
    while await queues.fill():
        pass
    await queues.fill()

    assert await rows(pool) == 18
    versions = await pool.fetch("SELECT version FROM webhook_deliveries WHERE assessment_id = 'a1' ORDER BY id")
    assert [row["version"] for row in versions] == list(range(1, 10))


class _Names(AbstractResolver):
    """Names that mean what the test says, one thing after the other."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002
    ) -> list[ResolveResult]:
        address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _leased(url: str) -> LeasedWebhook:
    return LeasedWebhook(id=uuid4(), url=url, secrets=(new_secret(),), failures=0)


DELIVERY = Delivery(id=1, assessment_id="a", message_id="msg_1", attempts=0, body=b"{}")


@pytest.mark.parametrize(
    "host", ["localhost", "inside.example", "2130706433", "0x7f.1", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_no_name_leads_to_a_private_address(host: str) -> None:
    async with receiving() as inside:
        port = inside.url.split(":")[2].split("/")[0]
        resolver = _Names("127.0.0.1") if host == "inside.example" else None
        async with open_sender(Targets(), resolver) as sender:
            for scheme in ("https", "http"):
                answer = await sender.send(_leased(f"{scheme}://{host}:{port}/hook"), DELIVERY, b"{}")
                assert answer.status is None
                assert re.search(r"is no public address|by https only|not a canonical IPv4", answer.words)

    assert inside.sent == []


async def test_a_name_that_means_something_else_the_next_time_leads_nowhere_new() -> None:
    async with receiving() as inside:
        port = inside.url.split(":")[2].split("/")[0]
        resolver = _Names("127.0.0.1", "127.0.0.2", "::ffff:10.0.0.1", "169.254.169.254")
        async with open_sender(Targets(networks("127.0.0.1/32")), resolver) as sender:
            answers = []
            for number in range(4):
                # Another port each time, so that no connection is used again.
                place = port if number == 0 else str(int(port) + number)
                hook = _leased(f"http://rebound.example:{place}/hook")
                answers.append(await sender.send(hook, DELIVERY, b"{}"))

    assert answers[0].is_good
    assert ["by https only" in answer.words for answer in answers[1:]] == [True] * 3
    assert len(inside.sent) == 1


async def test_a_redirect_is_not_followed_and_a_flood_is_not_read() -> None:
    async def flood(_sent: Sent) -> web.StreamResponse:
        return web.Response(status=500, body=b"x" * 10_000_000)

    async with receiving() as inside:
        redirect = Receiver(answering(307, Location=inside.url))
        async with receiving(redirect) as outside, open_sender(Targets(networks(LOCAL))) as sender:
            led = await sender.send(_leased(outside.url), DELIVERY, b"{}")
            outside.script = flood
            flooded = await sender.send(_leased(outside.url), DELIVERY, b"{}")

    assert (led.status, led.is_good, inside.sent) == (307, False, [])
    assert len(flooded.words) < 300


async def test_one_owner_has_so_many_webhooks_and_no_more(pool: Pool) -> None:
    store, request = WebhookStore(pool), WebhookRequest(url="https://example.com/")
    for _ in range(MOST_OF_ONE_OWNER):
        assert await store.put(uuid4(), "ann", request, new_secret(), sees_everything=False)
    assert await store.put(uuid4(), "ann", request, new_secret(), sees_everything=False) is None
    assert await store.put(uuid4(), "bob", request, new_secret(), sees_everything=False)


async def test_a_list_is_read_page_by_page_whatever_comes_and_goes(pool: Pool) -> None:
    store, request = WebhookStore(pool), WebhookRequest(url="https://example.com/")
    made = [
        await store.put(uuid4(), f"user-{number % 2}", request, new_secret(), sees_everything=False)
        for number in range(9)
    ]
    numbers = [hook.id for hook in made if hook is not None]
    # As of one moment: the id decides then.
    await pool.execute("UPDATE webhooks SET created_at = NOW() WHERE id = ANY($1::uuid[])", numbers[2:7])
    rows = await pool.fetch("SELECT id FROM webhooks ORDER BY created_at, id")
    expected = [str(row["id"]) for row in rows]

    first = await store.page(None, 4)
    await store.delete(first.webhooks[1].id)
    second = await store.page(None, 4, first.next_cursor)
    last = await store.page(None, 4, second.next_cursor)
    own = await store.page("user-1", 4)

    read = [str(hook.id) for page in (first, second, last) for hook in page.webhooks]
    assert read == expected
    assert last.next_cursor is None
    assert (len(own.webhooks), own.next_cursor) == (4 - (first.webhooks[1].owner == "user-1"), None)
    with pytest.raises(ValueError, match="not one of"):
        await store.page(None, 4, "x")
