"""Services in Docker: the `docker-compose.yml` of the checkout, one service at a time.

CI does not exercise this file, for there is no Docker engine there; it is thin for that reason.
Compose waits for the health checks, finds what runs already, and keeps the data of a container that was stopped.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Name, ServicesError
from .processes import ask
from .state import Record

if TYPE_CHECKING:
    from testcontainers.compose import DockerCompose

_COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"
_PROBE_TIMEOUT = 3.0
_URLS: dict[Name, str] = {
    "kafka": "localhost:9092",
    "postgres": "postgresql://assessmentstore@localhost:5432/assessmentstore",
    "redis": "redis://localhost:6379/0",
}


async def obstacle() -> str | None:
    """Return why Docker cannot be used here; None when an engine answers."""
    if not _COMPOSE_FILE.exists():
        return "docker-compose.yml exists in a checkout only"
    if find_spec("testcontainers") is None:
        return "the Python package testcontainers is not installed"
    if not shutil.which("docker"):
        return "`docker` is not on PATH"
    try:  # a command that needs both the engine and the compose plug-in
        code, _ = await ask("docker", "compose", "ls", "--quiet", patience=_PROBE_TIMEOUT)
    except TimeoutError:
        return f"`docker compose ls` gives no answer within {_PROBE_TIMEOUT:.0f} s"
    return f"`docker compose ls` fails with {code}" if code else None


async def start(name: Name) -> Record:
    """Start one service, and return when it is healthy.

    Raises:
        ServicesError: compose fails.
    """
    await _compose(name, lambda compose: compose.start())
    return Record(how="docker", url=_URLS[name], detail=f"{_COMPOSE_FILE}, service {name}")


async def stop(name: Name) -> None:
    """Stop one service, and keep its data.

    Raises:
        ServicesError: compose fails.
    """
    await _compose(name, lambda compose: compose.stop(down=False))


async def _compose(name: Name, action: Callable[[DockerCompose], None]) -> None:
    from testcontainers.compose import DockerCompose  # noqa: PLC0415 - slow, and of no use without an engine

    compose = DockerCompose(str(_COMPOSE_FILE.parent), _COMPOSE_FILE.name, services=[name])
    try:
        await asyncio.to_thread(action, compose)
    except subprocess.CalledProcessError as error:
        output = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else error.stderr
        raise ServicesError(
            f"Docker Compose failed for {name}: {output or error}. See `docker compose logs`."
        ) from error
