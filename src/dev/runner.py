"""Run everything on one machine, and leave nothing running.

What is started goes on a stack as soon as it runs, and the stack is unwound whatever happens: first the customers, then
worker, web and compliance server, then those services that were started here. A second signal kills all of it at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ..services import Services, down, found, up
from ..services.processes import are_free
from ..settings import ENV_PREFIX, Settings, SettingsError
from .access import audit_key, local_url, write_access
from .board import Board
from .children import Child, start
from .compliance import NAME, ComplianceServer, compliance_server
from .traffic import run_traffic
from .view import View

_KILLED = 130


def run(settings: Settings) -> int:
    """Run until a signal, and return 0 when everything is stopped.

    Raises:
        SettingsError: a port is taken.
        ServicesError: a service does not start.
        AssessmentStoreError: the worker, the web or the compliance server ended.
    """
    for name, port in (("HTTP_PORT", settings.http_port), ("WORKER_PORT", settings.worker_port)):
        if not are_free([port]):
            raise SettingsError(f"{ENV_PREFIX}{name}={port}: another program listens there: set it to a free port")
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=logs / "dev.log", format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True)
    return asyncio.run(_Dev(settings, logs).run())


class _Dev:
    def __init__(self, settings: Settings, logs: Path) -> None:
        self._settings = settings
        self._logs = logs
        self._view = View()
        self._board = Board()
        self._children: list[Child] = []
        self._running_before = _local_pids(settings)
        self._stopping = False

    async def run(self) -> int:
        work = asyncio.create_task(self._work())

        def stop(number: signal.Signals) -> None:
            if number == signal.SIGHUP:  # the terminal is gone, and printing on it fails
                self._view.mute()
            if self._stopping:
                self._kill()
            self._stopping = True
            work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        with suppress(asyncio.CancelledError):
            await work
        self._view.say("everything that was started here is stopped")
        return 0

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                await self._start_and_follow(stack)
            finally:
                self._stopping = True

    async def _start_and_follow(self, stack: AsyncExitStack) -> None:
        begin = time.monotonic()
        with self._view.stage("services"):
            importing = asyncio.get_running_loop().run_in_executor(None, _import_migrate)
            services = await self._start_services(stack)
            migrate = await importing
        settings = self._open_to_clients(services.apply(self._settings), stack)
        compliance = await stack.enter_async_context(compliance_server(settings, services))
        await self._start_children(settings, services, compliance, stack)
        with self._view.stage("schema and topics"):
            await migrate(settings)  # which both wait for; they need longer to begin than this takes
        with self._view.stage("worker and web"):
            await _until_one_ends(self._all_ready(settings, compliance), *self._ends())
        traffic = run_traffic(settings, compliance, self._board)
        await _until_one_ends(traffic, self._show(settings, services, compliance, begin), *self._ends())

    async def _start_services(self, stack: AsyncExitStack) -> Services:
        services = await up(self._settings, report=self._view.say)
        if services.started:
            stack.push_async_callback(self._stop_services, services)
        return services

    async def _stop_services(self, services: Services) -> None:
        with self._view.stage("stopping services"):
            await down(self._settings, only=services.started)

    def _open_to_clients(self, settings: Settings, stack: AsyncExitStack) -> Settings:
        """Make sure that there is a secret, and tell the clients of this folder."""
        made_up = None if settings.jwt_secret else secrets.token_urlsafe(32)
        file = write_access(settings, made_up)
        stack.callback(file.unlink, missing_ok=True)
        return settings if made_up is None else settings.model_copy(update={"jwt_secret": SecretStr(made_up)})

    async def _start_children(
        self, settings: Settings, services: Services, compliance: ComplianceServer, stack: AsyncExitStack
    ) -> None:
        environment = os.environ | services.environment() | compliance.environment()
        environment[f"{ENV_PREFIX}LOG_FORMAT"] = "json"
        if settings.jwt_secret:
            environment[f"{ENV_PREFIX}JWT_SECRET"] = settings.jwt_secret.get_secret_value()
        if settings.audit_signing_key is None:
            environment[f"{ENV_PREFIX}AUDIT_SIGNING_KEY"] = str(audit_key(settings))
        stack.push_async_callback(self._stop_children)
        arguments = {NAME: ["--port", str(compliance.port)]}
        for name in ("worker", "web", NAME):
            log = self._logs / f"{name}.log"
            self._children.append(await start(name, environment, log, arguments=arguments.get(name, ())))

    async def _all_ready(self, settings: Settings, compliance: ComplianceServer) -> None:
        urls = (local_url(settings.worker_port), local_url(settings.http_port), compliance.url)
        await asyncio.gather(*(child.ready(url) for child, url in zip(self._children, urls, strict=True)))

    async def _stop_children(self) -> None:
        with self._view.stage("stopping worker and web"):
            await asyncio.gather(*(child.stop() for child in self._children))

    async def _show(self, settings: Settings, services: Services, compliance: ComplianceServer, begin: float) -> None:
        with self._view.stage("first assessment"):
            await self._board.flowing.wait()
        self._view.say(f"{'ready after':<24} {time.monotonic() - begin:5.1f} s")
        self._view.welcome(settings, services, compliance.url, self._board)
        await self._view.follow(self._board)

    def _ends(self) -> list[Coroutine[Any, Any, None]]:
        return [child.ended() for child in self._children]

    def _kill(self) -> None:
        """End all of it now, without any ceremony."""
        try:
            for child in self._children:
                child.kill()
            for pid in _local_pids(self._settings) - self._running_before:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        finally:
            os._exit(_KILLED)


def _import_migrate() -> Callable[[Settings], Coroutine[Any, Any, list[str]]]:
    from ..bootstrap import migrate  # noqa: PLC0415 - takes seconds, and goes on while the services start

    return migrate


def _local_pids(settings: Settings) -> set[int]:
    """The processes of the services that run locally at the moment."""
    services = found(settings)
    return {service.pid for service in services.services if service.pid} if services else set()


async def _until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Do all of it until one ends or fails, and stop the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
