"""Over TLS and with credentials: all of it works, and who is not let in is told why."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import asyncpg
import pytest
from tests.harness.certificates import Authority, Issued
from tests.harness.installation import Installation
from tests.harness.judge import settled
from tests.harness.secured import CERTIFIED, PASSWORD, USER, Secured, secured_services
from tests.harness.waiting import eventually
from tests.harness.web import Web
from tests.harness.worker import Cluster, Worker

from assessmentstore.agents.topics import topics_exist
from assessmentstore.chaos.topics import read_topic
from assessmentstore.compliance.inspection import Inspection, inspect
from assessmentstore.compliance.scope import Aspect, Scope
from assessmentstore.compliance.targets import Target
from assessmentstore.compliance.verdict import issues
from assessmentstore.models.errors import UnavailableError
from assessmentstore.settings import Settings
from assessmentstore.store.migrate import is_migrated
from assessmentstore.store.redis import open_redis, redis_errors

REQUEST: dict[str, Any] = {"assessmentType": "compliance", "options": {}, "assessmentId": "a-1"}

ALL = Scope(aspects=frozenset(Aspect), deep=True, details=True, report=False)

CREDENTIALS = "refuses our user, password or certificate"
AUTHORITY = "an authority that is not trusted"
HOST = "a certificate for another host"
EXPIRED = "a certificate that has expired"
HANDSHAKE = "it wants a client certificate, or does not trust ours"
PROTOCOL = "hangs up on us"


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with asyncio.Runner() as runner:
        services = secured_services()
        found = runner.run(services.__aenter__())
        try:
            runner.run(_until_they_answer(found))
            yield found
        finally:
            runner.run(services.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def with_password(secured: Secured, **others: Any) -> dict[str, Any]:
    """Kafka with a user and a password over TLS."""
    return {
        "kafka_bootstrap": f"127.0.0.1:{secured.sasl}",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_ssl_cafile": secured.authority.file,
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
    } | others


def with_certificate(secured: Secured, shown: Issued) -> dict[str, Any]:
    """Kafka with a client certificate."""
    return {
        "kafka_bootstrap": f"127.0.0.1:{secured.mutual}",
        "kafka_security_protocol": "SSL",
        "kafka_ssl_cafile": secured.authority.file,
        "kafka_ssl_certfile": shown.certificate,
        "kafka_ssl_keyfile": shown.key,
    }


def load(**values: Any) -> Settings:
    return Settings.load(_env_file=None, **values)


async def _until_they_answer(secured: Secured) -> None:
    away = (UnavailableError,)
    await eventually(lambda: _answers(ask_kafka(load(**with_password(secured)))), "Kafka to answer", tolerate=away)
    if secured.postgres:
        url = secured.postgres_url()
        await eventually(lambda: _answers(ask_postgres(url)), "Postgres to answer", tolerate=away)
        connection = await asyncpg.connect(url)
        await connection.execute(f"CREATE ROLE {CERTIFIED} LOGIN SUPERUSER")
        await connection.close()
    if secured.redis:
        url = secured.redis_url()
        await eventually(lambda: _answers(ask_redis(url)), "Redis to answer", tolerate=away)


async def _answers(asking: Any) -> bool:
    await asking
    return True


async def ask_kafka(settings: Settings) -> None:
    await topics_exist(settings)


async def ask_postgres(url: str) -> None:
    await is_migrated(url)


async def ask_redis(url: str) -> None:
    async with open_redis(load(redis_url=url)) as client:
        with redis_errors():
            await client.set("key", "value")


# Who is not let in is told why.

KAFKA: dict[str, tuple[Callable[[Secured, Authority], dict[str, Any]], str]] = {
    "another password": (lambda here, _: with_password(here, kafka_sasl_password="hunter2"), CREDENTIALS),
    "another mechanism": (lambda here, _: with_password(here, kafka_sasl_mechanism="PLAIN"), CREDENTIALS),
    "an authority of others": (lambda here, other: with_password(here, kafka_ssl_cafile=other.file), AUTHORITY),
    "another name": (lambda here, _: with_password(here, kafka_bootstrap=f"localhost:{here.sasl}"), HOST),
    "a certificate of others": (lambda here, other: with_certificate(here, other.issue("client")), HANDSHAKE),
    "no TLS": (lambda here, _: {"kafka_bootstrap": f"127.0.0.1:{here.sasl}"}, PROTOCOL),
}

POSTGRES: dict[str, tuple[Callable[[Secured, Authority], str], str]] = {
    "another password": (lambda here, _: here.postgres_url(password="hunter2"), CREDENTIALS),
    "no certificate": (lambda here, _: here.postgres_url(CERTIFIED, None), CREDENTIALS),
    "an authority of others": (lambda here, other: here.postgres_url(sslrootcert=other.file), AUTHORITY),
    "another name": (lambda here, _: here.postgres_url(host="localhost"), HOST),
    "no TLS": (lambda here, _: here.postgres_url(sslmode="disable"), CREDENTIALS),
}

REDIS: dict[str, tuple[Callable[[Secured, Authority], str], str]] = {
    "another password": (lambda here, _: here.redis_url(password="hunter2"), CREDENTIALS),
    "a user without permission": (lambda here, _: here.redis_url("reader"), "does not permit our user"),
    "no certificate": (lambda here, _: here.redis_url(ssl_certfile="", ssl_keyfile=""), HANDSHAKE),
    "an authority of others": (lambda here, other: here.redis_url(ssl_ca_certs=other.file), AUTHORITY),
    "another name": (lambda here, _: here.redis_url(host="localhost"), HOST),
}


@pytest.mark.parametrize("case", KAFKA)
async def test_kafka_says_why_it_lets_nobody_in(secured: Secured, stranger: Authority, case: str) -> None:
    given, said = KAFKA[case]

    await _refused(ask_kafka(load(**given(secured, stranger))), "Kafka", said)


async def test_the_compliance_server_looks_at_a_kafka_behind_tls(secured: Secured) -> None:
    who = f"{USER}:{quote(PASSWORD)}"
    shown = {"ssl_certfile": secured.client.certificate, "ssl_keyfile": secured.client.key}
    trusted = {"ssl_cafile": secured.authority.file}
    inspected = [
        await inspect_kafka(f"kafka://{who}@127.0.0.1:{secured.sasl}", **trusted),
        await inspect_kafka(f"kafka://127.0.0.1:{secured.mutual}", security_protocol="SSL", **trusted, **shown),
    ]
    refused = await inspect_kafka(f"kafka://{USER}:hunter2@127.0.0.1:{secured.sasl}", **trusted)

    assert [(found.error, found.unchecked) for found in inspected] == [(None, {})] * 2
    assert [found.facts["protocol"] for found in inspected] == ["SASL_SSL", "SSL"]
    told = {issue.id for found in inspected for issue in issues(found, ALL)}
    assert {"queue:authentication", "queue:encryption"}.isdisjoint(told)
    assert refused.error
    assert "hunter2" not in refused.error


async def inspect_kafka(url: str, **options: object) -> Inspection:
    target = Target.parse(f"queue={url}?{urlencode(options)}")
    *_, (_, last) = [step async for step in inspect(target, ALL)]
    return last


@pytest.mark.parametrize("case", POSTGRES)
async def test_postgres_says_why_it_lets_nobody_in(secured: Secured, stranger: Authority, case: str) -> None:
    given, said = POSTGRES[case]

    await _refused(ask_postgres(given(secured, stranger)), "Postgres", said)


@pytest.mark.parametrize("case", REDIS)
async def test_redis_says_why_it_lets_nobody_in(secured: Secured, stranger: Authority, case: str) -> None:
    given, said = REDIS[case]

    await _refused(ask_redis(given(secured, stranger)), "Redis", said)


async def test_a_certificate_that_has_expired_is_called_so(stranger: Authority) -> None:
    """No service keeps running on one, so that a listener stands in for each as far as the handshake."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    late = stranger.issue("late", expired=True)
    tls.load_cert_chain(late.certificate, late.key)
    kafka = {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": stranger.file}

    async with _listening(tls) as (direct, after_request):
        await _refused(ask_kafka(load(kafka_bootstrap=f"127.0.0.1:{direct}", **kafka)), "Kafka", EXPIRED)
        await _refused(ask_redis(f"rediss://127.0.0.1:{direct}/0?ssl_ca_certs={stranger.file}"), "Redis", EXPIRED)
        url = f"postgresql://u@127.0.0.1:{after_request}/d?sslmode=verify-full&sslrootcert={stranger.file}"
        await _refused(ask_postgres(url), "Postgres", EXPIRED)


async def _refused(asking: Any, service: str, said: str) -> None:
    with pytest.raises(UnavailableError) as refused:
        await asking

    assert str(refused.value).startswith(f"{service} ")
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


@asynccontextmanager
async def _listening(tls: ssl.SSLContext) -> AsyncIterator[tuple[int, int]]:
    """A port that begins with TLS, and one where a client asks for it first, as Postgres has it."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def agree(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(tls)
        except OSError:
            writer.close()

    direct = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=tls)
    asked = await asyncio.start_server(agree, "127.0.0.1", 0)
    try:
        yield direct.sockets[0].getsockname()[1], asked.sockets[0].getsockname()[1]
    finally:
        direct.close()
        asked.close()


# Who is let in works as always.


class Doors(NamedTuple):
    """Two ways in: with passwords, and with certificates where there is that."""

    passwords: Installation
    certificates: Installation


@pytest.fixture(scope="module")
def doors(secured: Secured, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Doors:
    """One installation, by both; a service that cannot have TLS here is the one of all tests."""
    plain: Settings | None = None if secured.postgres and secured.redis else request.getfixturevalue("services")
    common: dict[str, Any] = {
        "topic_prefix": "secured.",
        "topic_partitions": 2,
        "session_timeout": 2.0,
        "http_host": "127.0.0.1",
        "log_format": "json",
        "jwt_secret": "a secret for tests, long enough for HS256",
    }
    shown: dict[str, Any] = {"sslcert": secured.client.certificate, "sslkey": secured.client.key}
    common["redis_url"] = secured.redis_url() if secured.redis else plain and plain.redis_url
    if secured.postgres:
        databases = secured.postgres_url(), secured.postgres_url(CERTIFIED, None, **shown)
    else:
        assert plain is not None
        databases = plain.database_url, plain.database_url
    folder = tmp_path_factory.mktemp("secured")
    one = common | with_password(secured) | {"database_url": databases[0], "data_dir": folder / "passwords"}
    other = (
        common
        | with_certificate(secured, secured.client)
        | {"database_url": databases[1], "data_dir": folder / "certificates"}
    )
    made = Doors(Installation(load(**one)), Installation(load(**other)))
    migrated = asyncio.run(_run(made.passwords, "migrate"))
    assert migrated.returncode == 0, migrated.stderr
    return made


async def test_all_of_it_works_over_tls(doors: Doors) -> None:
    cluster, web = Cluster(doors.passwords), Web(doors.certificates)
    try:
        worker = cluster.start()
        await web.until_ready()
        await cluster.until_owned_by(worker)

        assert (await web.ask("POST", "/assessments", REQUEST)).status == 201
        assert (await web.ask("POST", "/assessments/a-1/start")).status == 200
        done = await web.ask("POST", "/assessments/a-1/complete", {"result": {"overallScore": 97}})

        assert (done.status, done.body["state"]) == (200, "completed")
        await settled(doors.certificates)
        assert await _events(doors.certificates) == [1, 2, 3]
        await eventually(lambda: _is_well(web), "the web to be well")
    finally:
        web.destroy()
        cluster.destroy()


async def test_without_credentials_each_process_says_why(doors: Doors) -> None:
    """`migrate` ends, a web and a worker wait for somebody to put it right; nobody tells the password."""
    settings = doors.passwords.settings
    locked = Installation(load(**_given(settings) | {"kafka_sasl_password": "hunter2"}))
    web = Web(locked)
    worker = Worker(locked, "locked")
    try:
        migrated = await _run(locked, "migrate")
        assert migrated.returncode == 1
        assert migrated.stderr.splitlines()[-1].startswith(f"Error: Kafka {CREDENTIALS}")

        await web.until_ready(503)
        await eventually(lambda: _health_says(web, CREDENTIALS), "the web to say why it is not well")
        await eventually(lambda: _tells(worker, CREDENTIALS), "the worker to say why it waits")
        assert worker.returncode is None
        assert await _events(doors.certificates) in ([], [1, 2, 3])
        logs = "".join(file.read_text() for file in settings.data_dir.glob("*.log"))
        assert "hunter2" not in logs + migrated.stderr
    finally:
        web.destroy()
        worker.destroy()


def _given(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in settings.model_fields_set}


async def _is_well(web: Web) -> bool:
    """A probe may run out of time on a machine that is busy."""
    return bool((await web.ask("GET", "/health")).body["overall"] == "healthy")


async def _health_says(web: Web, words: str) -> bool:
    """The first probes may run out of time on a machine that is busy."""
    queue = (await web.ask("GET", "/health")).body["services"]["queue"]
    assert queue["status"] == "unhealthy"
    return words in queue["error"]


async def _tells(worker: Worker, words: str) -> bool:
    return words in worker.log.read_text()


async def _events(installation: Installation) -> list[int]:
    settings = installation.settings
    found = await read_topic(settings, settings.events_topic, settings.topic_partitions)
    return [record.event["version"] for records in found.values() for record in records]


async def _run(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assessmentstore", *arguments]
    environment = installation.environment()
    return await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False, cwd="/"
    )
