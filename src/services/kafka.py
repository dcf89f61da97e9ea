"""Kafka as a local process: one KRaft node, broker and controller in one, from the jars on Maven Central.

The jars are fetched once into the user's cache; `pom.xml` pins them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from string import Template
from typing import ClassVar, Self
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from .local import NotReadyError, Report, scratch_folder
from .model import MissingError, Name
from .processes import ask, run

_HERE = Path(__file__).parent
_POM = _HERE / "pom.xml"
_JAVA_MINIMUM = 17


@dataclass(frozen=True)
class Kafka:
    """A Java, and where the jars are or will be."""

    java: str
    jars: Path

    name: ClassVar[Name] = "kafka"
    port_count: ClassVar[int] = 2
    port_range: ClassVar[range] = range(20_000, 24_000)
    stop_signal: ClassVar[Signals] = SIGTERM
    stop_patience: ClassVar[float] = 4.0

    @classmethod
    async def find(cls) -> Self:
        """Find Java, and Maven unless the jars were fetched before.

        Raises:
            MissingError: one of them is missing, or the Java is too old.
        """
        jars = _cache() / f"kafka-{_version()}"
        java = shutil.which("java")
        lacking = [] if java else [f"Java {_JAVA_MINIMUM} or newer (`java` is not on PATH)"]
        if java and (found := await _java_version(java)) < _JAVA_MINIMUM:
            lacking.append(f"Java {_JAVA_MINIMUM} or newer ({java} is version {found or 'unknown'})")
        if not jars.is_dir() and not shutil.which("mvn"):
            lacking.append("Maven (`mvn` is not on PATH)")
        if java is None or lacking:
            raise MissingError(" and ".join(lacking))
        return cls(java, jars)

    @property
    def detail(self) -> str:
        return f"Kafka {_version()} on {self.java}"

    async def prepare(self, folder: Path, report: Report) -> None:
        """Fetch the jars once, and format the data directory once.

        Raises:
            ServicesError: one of the two fails.
        """
        if not self.jars.is_dir():
            report(f"kafka: fetching version {_version()} from Maven Central into {self.jars}")
            await _fetch(self.jars)
        if (folder / "data").exists():
            return
        report("kafka: formatting its data directory")
        cluster_id = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
        with scratch_folder(folder) as scratch:
            properties = _write_properties(scratch, (1, 2))
            arguments = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", properties]
            command = [*self._java(), *arguments]
            await run(*command, folder=scratch, what="Formatting Kafka's data directory")
            (scratch / "data").rename(folder / "data")

    def command(self, folder: Path, ports: tuple[int, ...]) -> list[str]:
        return [*self._java("-Xms128m", "-Xmx512m"), "kafka.Kafka", _write_properties(folder, ports)]

    @staticmethod
    def url(ports: tuple[int, ...]) -> str:
        return f"127.0.0.1:{ports[0]}"

    @staticmethod
    async def ready(url: str) -> None:
        """Ask for the brokers; one must be there."""
        host, _, port = url.partition(":")
        client = AIOKafkaAdminClient(bootstrap_servers=url, request_timeout_ms=5000)
        try:
            # aiokafka logs an error for each attempt that fails: keep it from a port where nobody listens yet.
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await client.start()
            if not (await client.describe_cluster())["brokers"]:
                raise NotReadyError("no broker is registered yet")
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotReadyError(str(error) or type(error).__name__) from error
        finally:
            await client.close()

    def _java(self, *options: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={_HERE / 'log4j2.properties'}"
        # A broker that lives for minutes pays for the optimising compiler, which takes a core for all of them.
        return [self.java, "-XX:TieredStopAtLevel=1", *options, logging, "-cp", f"{self.jars}/*"]


def _version() -> str:
    version = re.search(r"<kafka\.version>(.+?)<", _POM.read_text())
    assert version  # noqa: S101 - the file is ours
    return version[1]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assessmentstore"


async def _java_version(java: str) -> int:
    """Return the major version, 0 when it does not tell."""
    _, output = await ask(java, "-version")
    version = re.search(rb'version "(\d+)', output)
    return int(version[1]) if version else 0


async def _fetch(jars: Path) -> None:
    """Fetch into a folder beside, then rename: what bears the name is whole, whoever else fetches at the same time."""
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix="fetching-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch) / "jars"
        options = ["-q", "-B", "-Dstyle.color=never", "-f", str(_POM)]
        command = ["mvn", *options, "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
        what = f"Fetching Kafka {_version()} from Maven Central (is it, or a mirror, reachable?)"
        await run(*command, folder=jars.parent, what=what)
        _put_in_place(folder, jars)


def _put_in_place(folder: Path, jars: Path) -> None:
    try:
        folder.rename(jars)
    except OSError:
        if not jars.is_dir():  # else somebody was faster, and theirs is as good
            raise


def _write_properties(folder: Path, ports: tuple[int, ...]) -> str:
    """Write the configuration into the folder that the broker will run in, and return its name."""
    text = (_HERE / "server.properties").read_text()
    file = folder / "server.properties"
    file.write_text(Template(text).substitute(port=ports[0], controller_port=ports[1]))
    return file.name
