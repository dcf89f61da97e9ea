"""What the compliance server finds on real servers: Kafka, Postgres, Redis, HTTP, TLS, and files."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from assessmentstore.compliance import inspection as module
from assessmentstore.compliance.inspection import Inspection, inspect
from assessmentstore.compliance.scope import Aspect, Scope
from assessmentstore.compliance.targets import Target
from assessmentstore.compliance.verdict import issues
from assessmentstore.services.processes import free_ports
from assessmentstore.settings import Settings

ALL = Scope(aspects=frozenset(Aspect), deep=True, details=True, report=False)
DAY = timedelta(days=1)


async def inspected(url: str, scope: Scope = ALL) -> Inspection:
    *_, (_, last) = [step async for step in inspect(Target.parse(f"x={url}"), scope)]
    return last


def broken(item: Inspection) -> set[str]:
    """The rules that it breaks, but for that of the response time: a machine that is busy takes its time."""
    return {str(issue.id).removeprefix("x:") for issue in issues(item, ALL)} - {"response_time"}


class TestServices:
    async def test_a_kafka_tells_its_brokers_settings_and_topics(self, settings: Settings) -> None:
        item = await inspected(f"kafka://{settings.kafka_bootstrap}")

        assert (item.error, item.unchecked) == (None, {})
        assert item.facts["brokers"] == 1
        assert item.facts["auto.create.topics.enable"] is False
        assert item.facts["underReplicated"]["count"] == 0
        assert item.facts["topicsOfOneReplica"]["count"] >= 1
        assert broken(item) >= {"brokers", "min.insync.replicas", "replication", "authentication", "encryption"}

    async def test_a_postgres_tells_its_settings_and_who_comes_in(self, settings: Settings) -> None:
        item = await inspected(settings.database_url)

        assert (item.error, item.unchecked) == (None, {})
        assert item.facts["fsync"] in {"on", "off"}
        assert int(item.facts["version"].split(".")[0]) >= 10
        assert 0 < item.facts["connectionsUsed"] <= 1
        assert item.facts["xidAge"] > 0
        assert isinstance(item.facts["authentication"], bool)

    async def test_a_postgres_user_that_may_not_read_all_is_no_failure(self, settings: Settings) -> None:
        """It sees no access rules: that is told as not checked, beside all that it does see."""
        owner = await asyncpg.connect(settings.database_url)
        role = f"narrow_{datetime.now(UTC):%H%M%S%f}"
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            url = Target.parse(f"x={settings.database_url}")
            item = await inspected(f"postgresql://{role}:x@{url.address}/postgres")
        finally:
            await owner.execute(f"DROP ROLE {role}")
            await owner.close()

        assert item.error is None
        assert item.facts["superuser"] is False
        assert set(item.unchecked) == {"access rules"}
        assert "unchecked:access rules" in broken(item)

    async def test_a_redis_tells_its_settings_and_users(self, settings: Settings) -> None:
        item = await inspected(settings.redis_url)

        assert (item.error, item.unchecked) == (None, {})
        assert item.facts["maxmemory-policy"]
        assert item.facts["usersWithoutPassword"]["some"] == ["default"]
        assert broken(item) >= {"authentication", "encryption", "users_without_password"}

    async def test_a_redis_user_with_a_password_is_none_without(self, settings: Settings) -> None:
        client = redis.asyncio.Redis.from_url(settings.redis_url)
        name = f"user-{datetime.now(UTC):%H%M%S%f}"
        await client.acl_setuser(name, enabled=True, passwords="+pw", commands=["+ping", "+info", "+acl|list"])
        try:
            item = await inspected(settings.redis_url.replace("://", f"://{name}:pw@"))
        finally:
            await client.acl_deluser(name)
            await client.aclose()

        assert item.error is None
        assert set(item.unchecked) == {"settings"}
        assert item.facts["usersWithoutPassword"]["some"] == ["default"]
        assert item.facts["authentication"] is False

    @pytest.mark.parametrize("scheme", ["kafka", "redis", "postgresql", "http", "https", "tls"])
    async def test_a_port_that_nobody_listens_on_does_not_respond(self, scheme: str) -> None:
        (port,) = free_ports(1, range(20_000, 30_000))

        item = await inspected(f"{scheme}://127.0.0.1:{port}")

        assert item.error
        assert broken(item) == {"availability"}

    async def test_a_look_that_gets_no_answer_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_PATIENCE", 0.2)
        async with served(_hang) as port:
            item = await inspected(f"http://127.0.0.1:{port}/")

        assert item.error == "no answer within 0.2 s"


async def _hang(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise web.HTTPOk


Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def served(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A web server whose every path is answered by `handler`; its port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _plain(_: web.Request) -> web.Response:
    headers = {"Server": "Example/1.2", "X-Content-Type-Options": "nosniff"}
    response = web.Response(headers=headers)
    response.set_cookie("session", "x")
    return response


class TestHttp:
    async def test_an_endpoint_tells_its_status_and_headers(self) -> None:
        async with served(_plain) as port:
            item = await inspected(f"http://127.0.0.1:{port}/")

        assert (item.facts["status"], item.facts["tls"]) == (200, False)
        assert item.facts["toldVersions"] == ["Example/1.2"]
        assert item.facts["looseCookies"] == ["session"]
        assert "x-content-type-options" not in item.facts["missingHeaders"]
        assert broken(item) == {"encryption", "security_headers", "told_versions", "loose_cookies"}

    async def test_a_redirect_is_not_followed(self) -> None:
        visited: list[str] = []

        async def redirect(request: web.Request) -> web.Response:
            visited.append(request.path)
            return web.Response(status=302, headers={"Location": "/secret"})

        async with served(redirect) as port:
            item = await inspected(f"http://127.0.0.1:{port}/start")

        assert visited == ["/start"]
        assert item.facts["status"] == 302

    async def test_an_endpoint_by_https_is_looked_at_as_a_tls_server_too(self, authority: Authority) -> None:
        async with served(_plain, authority.context()) as port:
            item = await inspected(f"https://127.0.0.1:{port}/")

        assert item.unchecked == {}
        assert (item.facts["status"], item.facts["tls"], item.facts["trusted"]) == (200, True, True)
        assert "strict-transport-security" in item.facts["missingHeaders"]


class Authority:
    """Makes certificates, and is trusted by clients of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority of the tests")])
        own = self._builder(self._name, 365 * DAY, self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self._own = own.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._own.public_bytes(serialization.Encoding.PEM))

    def context(
        self,
        *,
        host: str = "127.0.0.1",
        left: timedelta = 90 * DAY,
        self_signed: bool = False,
        rsa_bits: int | None = None,
        oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> ssl.SSLContext:
        """What a server with such a certificate is made of."""
        key = rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        builder = self._builder(name, left, key.public_key(), issuer=name if self_signed else self._name)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        made = builder.add_extension(names, critical=False).sign(key if self_signed else self._key, hashes.SHA256())
        file = self._folder / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = oldest
        return context

    def _builder(
        self, subject: x509.Name, left: timedelta, key: Any, *, issuer: x509.Name | None = None
    ) -> x509.CertificateBuilder:
        end = datetime.now(UTC) + left
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 400 * DAY)
            .not_valid_after(end)
        )


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    return made


class TestTls:
    @pytest.mark.parametrize(
        ("made", "rules"),
        [
            ({}, set()),
            ({"left": -DAY}, {"expiry"}),
            ({"left": 10 * DAY}, {"expiry"}),
            ({"host": "127.0.0.9"}, {"host_name"}),
            ({"host": "127.0.0.9", "left": -DAY, "self_signed": True}, {"host_name", "expiry", "trust"}),
            ({"self_signed": True}, {"trust"}),
            ({"rsa_bits": 1024}, {"key_size"}),
            ({"oldest": ssl.TLSVersion.TLSv1}, {"old_protocols"}),
        ],
        ids=["sound", "expired", "expiring", "other-host", "all-wrong", "self-signed", "short-key", "old-protocols"],
    )
    async def test_what_is_wrong_with_a_server_is_found(
        self, authority: Authority, made: dict[str, Any], rules: set[str]
    ) -> None:
        async with served(_plain, authority.context(**made)) as port:
            item = await inspected(f"tls://127.0.0.1:{port}")

        assert (item.error, item.unchecked) == (None, {})
        assert broken(item) == rules

    async def test_an_authority_that_nobody_trusts_is_not_trusted(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        async with served(_plain, authority.context()) as port:
            item = await inspected(f"tls://127.0.0.1:{port}")

        assert (item.facts["trusted"], item.facts["selfSigned"], item.facts["hostMatches"]) == (False, False, True)

    async def test_what_speaks_no_tls_does_not_respond(self) -> None:
        async with served(_plain) as port:
            item = await inspected(f"tls://127.0.0.1:{port}")

        assert item.error


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "etc"
        (folder / "deep").mkdir(parents=True)
        (folder / "app.env").write_text("# DEBUG=true\nexport DB_PASSWORD='changeme'\nPORT=1\n")
        (folder / "deep" / "app.yaml").write_text("server:\n  debug: yes\n  sslmode: disable # for now\n")
        (folder / "notes.txt").write_text("password=changeme\n")
        (folder / "app.env").chmod(0o644)
        return folder

    async def test_a_folder_is_looked_into_and_no_value_is_told(self, folder: Path) -> None:
        item = await inspected(folder.as_uri())

        assert item.facts["defaultPasswords"] == {"count": 1, "some": ["app.env:2 DB_PASSWORD"]}
        assert item.facts["exposedSecrets"]["some"] == ["app.env"]
        assert item.facts["debugOn"]["some"] == ["deep/app.yaml:2 debug"]
        assert item.facts["weakTls"]["some"] == ["deep/app.yaml:3 sslmode"]
        assert broken(item) == {"default_passwords", "exposed_secrets", "debug", "weak_tls"}
        assert "changeme" not in str([issue.to_wire() for issue in issues(item, ALL)])

    async def test_subfolders_take_a_deep_scan(self, folder: Path) -> None:
        item = await inspected(folder.as_uri(), Scope(aspects=ALL.aspects, deep=False, details=True, report=False))

        assert (item.facts["files"], item.facts["debugOn"]["count"]) == (1, 0)

    async def test_a_single_file_that_others_cannot_read_exposes_nothing(self, folder: Path) -> None:
        (folder / "app.env").chmod(0o600)

        item = await inspected((folder / "app.env").as_uri())

        assert (item.facts["files"], item.facts["exposedSecrets"]["count"]) == (1, 0)

    async def test_a_link_out_of_the_folder_is_not_followed(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "outside.env").write_text("PASSWORD=changeme\n")
        (folder / "deep" / "link.env").symlink_to(tmp_path / "outside.env")
        (folder / "away").symlink_to(tmp_path, target_is_directory=True)

        item = await inspected(folder.as_uri())

        assert item.facts["passedOver"] == {"count": 1, "some": ["deep/link.env"]}
        assert item.facts["defaultPasswords"]["count"] == 1

    async def test_a_pipe_is_not_waited_for(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe.env")

        item, alone = await inspected(folder.as_uri()), await inspected((folder / "pipe.env").as_uri())

        assert item.facts["passedOver"] == {"count": 1, "some": ["pipe.env"]}
        assert (alone.facts["files"], alone.facts["passedOver"]["count"]) == (0, 1)

    async def test_a_folder_that_does_not_exist_is_told(self, tmp_path: Path) -> None:
        item = await inspected((tmp_path / "nowhere").as_uri())

        assert "No such file" in (item.error or "")
