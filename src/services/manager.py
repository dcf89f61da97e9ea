"""Bring the services up, find them, and take down those that were started here."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..settings import Settings
from . import docker, local
from .kafka import Kafka
from .local import NotReadyError, Program, Report
from .model import FIELDS, NAMES, MissingError, Name, Service, Services, ServicesError, variable
from .postgres import Postgres
from .redis import Redis
from .state import Record, State, locked

_PROGRAMS: Mapping[Name, type[Program]] = {"kafka": Kafka, "postgres": Postgres, "redis": Redis}
_LABELS: Mapping[Name, str] = {"kafka": "Kafka", "postgres": "Postgres", "redis": "Redis"}
# A process that has not answered for this long is stuck, and is replaced.
_REUSE_DEADLINE = 15.0

T = TypeVar("T")


def silent(_message: str) -> None:
    """Report nothing."""


async def up(
    settings: Settings, *, only: Collection[Name] = NAMES, docker_too: bool = True, report: Report = silent
) -> Services:
    """Make sure that the services are there: from the environment, else still running, else started.

    What dies meanwhile is brought back by another call, on its old address and data.

    Args:
        settings: that may name some, and say where local ones have their data.
        only: these.
        docker_too: whether Docker may run them, where one container is everybody's.
        report: told of each step.

    Raises:
        ServicesError: one has no way to run here, or does not start; whatever this call started is stopped again.
    """
    async with locked(_folder(settings), report) as state:
        known = {service.name: service for service in await _known(settings, only, state)}
        wanted = [name for name in NAMES if name in only and name not in known]
        programs = await _choose(wanted, state, docker_too=docker_too)
        try:
            new = await _all(_start(name, programs[name], state, report) for name in wanted)
        except BaseException:
            await _all(_stop(name, state) for name in wanted)
            raise
    present = known | {service.name: service for service in new}
    services = tuple(present[name] for name in NAMES if name in present)
    return Services(services=services, started=frozenset(wanted))


async def down(settings: Settings, *, only: Collection[Name] = NAMES, report: Report = silent) -> list[Name]:
    """Stop the services that `up` started with this data directory, and return the names of those that ran.

    Raises:
        ServicesError: one cannot be stopped.
    """
    folder = _folder(settings)
    if not folder.exists():
        return []
    async with locked(folder, report) as state:
        names = [name for name in NAMES if name in only]
        ran = await _all(_stop(name, state) for name in names)
    return [name for name, running in zip(names, ran, strict=True) if running]


def found(settings: Settings) -> Services | None:
    """Return the services that are there now, None if there are none; start nothing, and don't ask whether they answer.

    Raises:
        ServicesError: the record of what was started is damaged.
    """
    records = State(_folder(settings)).load()
    there = (_from_environment(settings, name, records) or _running(name, records) for name in NAMES)
    services = tuple(service for service in there if service)
    return Services(services=services) if services else None


def _folder(settings: Settings) -> Path:
    return (settings.data_dir / "services").absolute()


async def _known(settings: Settings, only: Collection[Name], state: State) -> list[Service]:
    """Return the services that need no start."""
    records = state.load()

    async def known(name: Name) -> Service | None:
        if service := _from_environment(settings, name, records):
            return service
        service = _running(name, records)
        return service if service and await _answers(name, records[name]) else None

    return [service for service in await _all(known(name) for name in NAMES if name in only) if service]


def _from_environment(settings: Settings, name: Name, records: Mapping[Name, Record]) -> Service | None:
    url: str = getattr(settings, FIELDS[name])
    # The address of a service that we started is ours to look after, also where somebody exported it.
    ours = name in records and records[name].url == url
    if FIELDS[name] not in settings.model_fields_set or ours:
        return None
    return Service(name=name, how="environment", url=url, detail=variable(name))


def _running(name: Name, records: Mapping[Name, Record]) -> Service | None:
    record = records.get(name)
    if not record or not record.running:
        return None
    return _service(name, record)


def _service(name: Name, record: Record) -> Service:
    pid = record.process.pid if record.process else None
    return Service(name=name, how=record.how, url=record.url, detail=record.detail, pid=pid)


async def _answers(name: Name, record: Record) -> bool:
    if record.how == "docker":
        return False  # compose itself knows what still runs
    try:
        await local.wait_until_ready(_PROGRAMS[name], record, deadline=_REUSE_DEADLINE)
    except NotReadyError:
        return False
    return True


async def _choose(names: Collection[Name], state: State, *, docker_too: bool) -> dict[Name, Program | None]:
    """Choose how to start each service: None stands for Docker.

    Raises:
        ServicesError: there is no way for some; the one message names the ways for each.
    """
    obstacle = await docker.obstacle() if names and docker_too else "not wanted here"
    chosen: dict[Name, Program | None] = {}
    hopeless = []
    for name in names:
        record = state.load().get(name)
        # Data that a local process holds is not left behind because an engine turned up.
        if obstacle is None and not (record and record.how == "local"):
            chosen[name] = None
            continue
        try:
            chosen[name] = await _PROGRAMS[name].find()
        except MissingError as error:
            hopeless.append(_ways(name, obstacle or "not used, as there is data of a local one", str(error)))
    if hopeless:
        raise ServicesError("\n".join(["There is no way to run what is needed. Choose one for each:", *hopeless]))
    return chosen


def _ways(name: Name, obstacle: str, lacking: str) -> str:
    ways = (f"set {variable(name)} to one that runs", f"or start Docker ({obstacle})", f"or install {lacking}")
    return f"  {_LABELS[name]}: {', '.join(ways)}."


async def _start(name: Name, program: Program | None, state: State, report: Report) -> Service:
    before = state.load().get(name)
    report(f"{name}: starting")
    if program is None:
        record = await docker.start(name)
        state.save(name, record)
    else:
        if before:
            await local.stop(_PROGRAMS[name], before)  # one that no longer answers

        def save(record: Record) -> None:
            state.save(name, record)

        record = await local.start(program, state.folder / name, before, save=save, report=report)
    report(f"{name}: ready at {record.url}")
    return _service(name, record)


async def _stop(name: Name, state: State) -> bool:
    record = state.load().get(name)
    if not record:
        return False
    if record.how == "docker":
        await docker.stop(name)
        state.forget(name)
        return True
    ran = await local.stop(_PROGRAMS[name], record)
    state.save(name, replace(record, process=None))
    return ran


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all at once; when the last has ended, and no sooner, raise what went wrong."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, ServicesError):
            raise failure
    if failures:
        raise ServicesError("\n".join(str(failure) for failure in failures)) from failures[0]
    return [result for result in results if not isinstance(result, BaseException)]
