"""`assessmentstore dev` as a user runs it: everything comes up, assessments flow, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest
from tests.harness.waiting import eventually

from assessmentstore.services import down, found, up
from assessmentstore.services.processes import free_ports
from assessmentstore.settings import Settings

PORTS = range(10_000, 20_000)
# The first start of Kafka on a machine that is busy with other things.
START_DEADLINE = 180.0
STOP_DEADLINE = 40.0

pytestmark = pytest.mark.timeout(400)


class Dev:
    """A running `assessmentstore dev`, and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port, worker_port = free_ports(2, PORTS)
        kept = {name: value for name, value in os.environ.items() if not re.search("ASSESSMENTSTORE|_URL|JWT", name)}
        self._environment = kept | {
            "ASSESSMENTSTORE_HTTP_PORT": str(self.http_port),
            "ASSESSMENTSTORE_WORKER_PORT": str(worker_port),
        }
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "assessmentstore", "dev"],
                cwd=folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def children(self) -> list[psutil.Process]:
        """The worker, the web and the compliance server, and the services where this dev started them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, name: str) -> psutil.Process:
        own = psutil.Process(self.process.pid).children()  # and not theirs: backends of Postgres come and go
        (child,) = (child for child in own if child.cmdline()[3:5] == ["assessmentstore", name])
        return child

    async def prints(self, pattern: str) -> re.Match[str]:
        async def printed() -> re.Match[str] | None:
            assert self.process.poll() is None, f"dev ended:\n{self.output}"
            return re.search(pattern, self.output, re.MULTILINE)

        match = await eventually(printed, f"dev prints {pattern}", deadline=START_DEADLINE)
        assert match is not None
        return match

    async def ends(self) -> int:
        async def ended() -> bool:
            return self.process.poll() is not None

        await eventually(ended, "dev ends", deadline=STOP_DEADLINE)
        return self.process.wait()

    async def client(self, *arguments: str) -> str:
        """What a client command prints in this folder, without its port: `dev` left that."""
        environment = {name: value for name, value in self._environment.items() if "PORT" not in name}
        command = [sys.executable, "-m", "assessmentstore", *arguments]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One folder for all, so that only the first start is a first one; its services end with the tests."""
    with tempfile.TemporaryDirectory(prefix="assessmentstore-dev-") as path:
        try:
            yield Path(path)
        finally:
            asyncio.run(down(here(Path(path))))


@pytest.fixture
async def dev(folder: Path) -> AsyncIterator[Dev]:
    running = Dev(folder)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait(10)


def here(folder: Path) -> Settings:
    return Settings(_env_file=None, data_dir=folder / ".assessmentstore")  # type: ignore[call-arg]


def services_of(folder: Path) -> list[psutil.Process]:
    services = found(here(folder))
    return [psutil.Process(service.pid) for service in services.services if service.pid] if services else []


async def gone(processes: list[psutil.Process]) -> None:
    async def none_runs() -> bool:
        return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)

    await eventually(none_runs, f"none of {processes} runs", deadline=STOP_DEADLINE, tolerate=(psutil.NoSuchProcess,))


async def test_dev_brings_up_everything_and_ctrl_c_leaves_nothing(dev: Dev) -> None:
    curl = await dev.prints(r"^curl -H '(.+): (.+)' (http\S+)$")
    header, bearer, url = curl.groups()
    processes = [
        dev.child("worker"),
        dev.child("web"),
        dev.child("compliance-server"),
        *services_of(dev.folder),
        *dev.children,
    ]
    async with aiohttp.ClientSession(headers={header: bearer}) as session, session.get(url) as response:
        record = await response.json()
    completed = await dev.prints(r"completed (\d+)")
    await dev.prints(r"failed [1-9]")  # a server that does not listen
    await dev.prints(r"cancelled [1-9]")  # one that never answers, and somebody who lost patience
    waited = await dev.client("wait", record["assessmentId"])

    dev.process.send_signal(signal.SIGINT)
    code = await dev.ends()

    assert (record["state"], record["progress"]) == ("completed", 100)
    assert record["resultData"]["serverStatuses"][0]["status"] == "online"
    assert int(completed[1]) > 0
    assert '"status":"completed"' in waited
    assert code == 0
    await gone(processes)
    assert services_of(dev.folder) == []
    assert not (dev.folder / ".assessmentstore" / "dev.env").exists()


class TestWithServicesThatRunAlready:
    @pytest.fixture(autouse=True)
    async def running_services(self, folder: Path) -> None:
        await up(here(folder))

    async def test_a_child_that_ends_ends_dev_which_tells_why_and_leaves_the_services(self, dev: Dev) -> None:
        await dev.prints("^curl")
        worker, others = dev.child("worker"), [dev.child("web"), dev.child("compliance-server")]

        worker.kill()
        code = await dev.ends()

        assert code == 1
        assert (
            f"Error: The worker ended with SIGKILL. The last lines of {Path('.assessmentstore/logs/worker.log')}:"
            in (dev.output)
        )
        await gone([worker, *others])
        assert all(service.is_running() for service in services_of(dev.folder))

    async def test_a_dev_that_is_killed_takes_its_children_along(self, dev: Dev) -> None:
        await dev.prints("^curl")
        children = [dev.child("worker"), dev.child("web"), dev.child("compliance-server")]

        dev.process.kill()

        await dev.ends()
        await gone(children)

    @pytest.mark.soak
    async def test_a_taken_port_is_told_before_anything_starts(self, dev: Dev, folder: Path) -> None:
        await dev.prints("^curl")
        command = [sys.executable, "-m", "assessmentstore", "dev"]
        environment = os.environ | {"ASSESSMENTSTORE_HTTP_PORT": str(dev.http_port)}

        done = await asyncio.to_thread(
            subprocess.run, command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )

        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            f"Error: ASSESSMENTSTORE_HTTP_PORT={dev.http_port}: another program listens there"
        )
