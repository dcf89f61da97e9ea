"""The HTTP API as a real process, and requests to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import aiohttp

from assessmentstore.services.processes import free_ports
from assessmentstore.settings import ENV_PREFIX
from assessmentstore.web.auth import Role, mint_token

from .installation import Installation
from .waiting import eventually

_PORTS = range(12_000, 16_000)


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Mapping[str, str]


class Web:
    """One `assessmentstore web`."""

    def __init__(self, installation: Installation, *, port: int | None = None) -> None:
        """Start it, on a port of its own where none is given."""
        self._installation = installation
        self.port = port or free_ports(1, among=_PORTS)[0]
        folder = installation.settings.data_dir
        folder.mkdir(parents=True, exist_ok=True)
        environment = installation.environment() | {f"{ENV_PREFIX}HTTP_PORT": str(self.port)}
        with (folder / f"web-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "assessmentstore.chaos.child", "-", "web"],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def token(self, user: str = "alice", role: Role = Role.USER) -> str:
        """A token that this installation believes."""
        secret = self._installation.settings.jwt_secret
        assert secret is not None
        return mint_token(secret.get_secret_value(), user, [role], timedelta(hours=1))

    async def ask(
        self, method: str, path: str, body: Any = None, *, user: str = "alice", role: Role = Role.USER, **headers: str
    ) -> Answer:
        """One request; header names with _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent.setdefault("Authorization", f"Bearer {self.token(user, role)}")
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", json=body, headers=sent) as answer,
        ):
            is_json = "json" in answer.headers.get("Content-Type", "")
            return Answer(
                answer.status,
                await (answer.json(content_type=None) if is_json else answer.text()),
                answer.headers.copy(),
            )

    async def until_ready(self, status: int = 200) -> None:
        """Wait until `/ready` answers with this status."""

        async def probe() -> bool:
            return (await self.ask("GET", "/ready")).status == status

        await eventually(probe, f"{status} from the web's /ready", tolerate=(aiohttp.ClientError, OSError))

    def destroy(self) -> None:
        """End it, in whichever state it is."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@asynccontextmanager
async def running_web(installation: Installation) -> AsyncIterator[Web]:
    """The API, up and ready."""
    web = Web(installation)
    try:
        await web.until_ready()
        yield web
    finally:
        web.destroy()
