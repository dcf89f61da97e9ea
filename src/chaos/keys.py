"""The keys of a run whose payloads are encrypted, changed in the middle of it as docs/encryption.md says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from ..models.errors import UnavailableError
from ..settings import Settings
from ..store.cache import SharedCache
from ..store.encryption import KeyRing, generate
from ..store.postgres import open_pools
from ..store.redis import open_redis
from ..store.rotation import Rotation
from .plan import WEBS, WORKERS

_PAUSE_SECONDS = 0.5

_BEFORE, _AFTER = "before", "after"


class KeyFile:
    """A file with two keys, which every process reads when it begins."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._keys = [generate(_BEFORE), generate(_AFTER)]
        file.parent.mkdir(parents=True, exist_ok=True)
        self._write()

    def turn(self) -> None:
        """Let whoever begins from now on encrypt under the other key."""
        self._keys.sort(key=lambda key: not key.startswith(_AFTER))
        self._write()

    def _write(self) -> None:
        """Replace it whole: somebody may begin just now."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(self._keys))
        new.replace(self.file)


async def rotate(settings: Settings) -> list[str]:
    """Encrypt anew what rests in Postgres, however long that takes, and say what could not be.

    Each try begins with the first row, as a rotation does that was broken off.
    """
    while True:
        told: list[str] = []
        try:
            async with open_pools(settings, application="rotation") as pools, open_redis(settings) as redis:
                rotation = Rotation(pools.write, KeyRing.of(settings), SharedCache(redis, settings.topic_prefix))
                done = await rotation.run(told.append)
        except (UnavailableError, OSError):
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        return told if done.unreadable or done.passed_over else []


async def change_keys(
    keys: KeyFile, settings: Settings, restart: Callable[[str], Awaitable[None]], ask: Callable[[], Awaitable[None]]
) -> None:
    """Change the key under load: turn the file, restart everybody, a worker and a web at a time, and encrypt anew.

    Args:
        keys: the file.
        settings: of the installation.
        restart: restarts one worker or web.
        ask: has every client ask again, while what he asked for rests under the old key.
    """
    keys.turn()
    for pair in zip(WORKERS, WEBS, strict=True):
        await asyncio.gather(*map(restart, pair))
    await ask()
    await rotate(settings)
