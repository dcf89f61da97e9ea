"""Fixtures for all tests: real services, installations on them, and workers that end with their test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_timeout import Settings as Limit
from tests.harness.hangs import describe_tasks
from tests.harness.installation import (
    Installation,
    create_installation,
    create_template,
    database_name,
    drop_database,
)
from tests.harness.replica import Replica, open_replica
from tests.harness.worker import Cluster

from assessmentstore.services import down, up
from assessmentstore.settings import Settings

_FAILED = pytest.StashKey[bool]()

_FOLDER = "TESTS_FOLDER"

_TEARDOWN_SECONDS = 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether their test failed, and tell what the tasks of one that hung waited for."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    if call.excinfo is not None and "from pytest-timeout" in str(call.excinfo.value):
        report.sections.append(("Tasks", describe_tasks()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Give the end of each test a limit of its own: where it failed, the one of the test is over."""
    item.ihook.pytest_timeout_set_timer(item=item, settings=Limit(_TEARDOWN_SECONDS, "signal", False, False))
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of the services, for all processes of this run."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = tempfile.mkdtemp(prefix="assessmentstore-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the services that were started for this run, when its last process has ended."""
    if not hasattr(config, "workerinput"):
        folder = Path(os.environ.pop(_FOLDER))
        asyncio.run(down(Settings.model_construct(data_dir=folder)))
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def services() -> Settings:
    """Kafka, Postgres and Redis: of the environment, else started for this run, whose processes share them."""
    settings = Settings(_env_file=None, data_dir=Path(os.environ[_FOLDER]))  # type: ignore[call-arg]
    return asyncio.run(up(settings)).apply(settings)


@pytest.fixture(scope="session")
def template_database(services: Settings) -> Iterator[str]:
    """A database with the schema, to be copied."""
    name = asyncio.run(create_template(services))
    yield name
    asyncio.run(drop_database(services, name))


@pytest.fixture
async def installation(
    services: Settings, template_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Installation]:
    """A database and topics of the test's own; a marker `settings(name=value)` sets what is to differ."""
    marker = request.node.get_closest_marker("settings")
    wanted: dict[str, Any] = dict(marker.kwargs) if marker else {}
    made = await create_installation(services, template_database, tmp_path, **wanted)
    yield made
    await drop_database(services, database_name(made.settings))


@pytest.fixture
def settings(installation: Installation) -> Settings:
    """The settings of the test's own installation."""
    return installation.settings


@pytest.fixture(scope="module")
def streaming_replica(services: Settings) -> Iterator[Replica]:
    """A replica of the whole Postgres, for the tests of one module."""
    with asyncio.Runner() as runner:
        opened = open_replica(services.database_url)
        yield runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
async def replica(streaming_replica: Replica) -> Replica:
    """The module's replica, following."""
    await streaming_replica.heal()
    return streaming_replica


@pytest.fixture
def cluster(installation: Installation, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The workers of the installation; they end with the test, and tell what they logged if it failed."""
    workers = Cluster(installation)
    yield workers
    workers.destroy()
    if request.node.stash.get(_FAILED, False):
        print(workers.tails())  # noqa: T201 - pytest shows it with the failure
