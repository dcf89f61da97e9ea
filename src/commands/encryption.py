"""The commands of whoever holds the keys: `encryption keygen`, `status` and `rotate`.

They work where `migrate` does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ..output import for_people, print_json, progress

# Everything slow is imported where it is used: `--help` and a wrong option answer at once.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from ..settings import Settings
    from ..store.encryption import KeyRing
    from ..store.rotation import Rotation

encryption = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
commands = typer.Typer()
commands.add_typer(encryption, name="encryption", help="Make, count and change the keys of payloads.")


@encryption.command()
def keygen(
    key_id: Annotated[
        str | None, typer.Option("--id", help="Its name; else made of today's date.", show_default=False)
    ] = None,
) -> None:
    """Print a new key as ASSESSMENTSTORE_ENCRYPTION_KEYS takes it: `id:base64`.

    Keep it: what is encrypted under it can be read with it alone.

    \b
    Example:
      (umask 077; assessmentstore encryption keygen > keys)
      export ASSESSMENTSTORE_ENCRYPTION_KEYS=@$PWD/keys
    """
    from datetime import UTC, datetime

    from ..store.encryption import generate

    typer.echo(generate(key_id or f"{datetime.now(UTC):%Y%m%dT%H%M%S}"))


@encryption.command()
def status() -> None:
    """Tell how many payloads in Postgres are under which key, one line for each.

    \b
    Example:
      assessmentstore encryption status
    """
    from ..settings import Settings
    from ..store.encryption import KeyRing
    from ..store.rotation import TABLES

    settings = Settings.load()
    keys = KeyRing.of(settings)

    async def count() -> dict[tuple[str, str | None], int]:
        async with _rotation(settings, keys) as rotation:
            with progress("counting"):
                return await rotation.count()

    found = asyncio.run(count())
    for key in sorted({key for _, key in found} | {keys.current}, key=str):
        counts = {name: found.get((name, key), 0) for name in TABLES}
        standing = "clear" if key is None else keys.standing(key)
        row = {"keyId": key, "standing": standing, **counts}
        if for_people(sys.stdout):
            told = " ".join(f"{count:>10,} {name}" for name, count in counts.items())
            typer.echo(f"{key or '-':<24} {standing:<8} {told}")
        else:
            print_json(row)


@encryption.command()
def rotate() -> None:
    """Encrypt anew what rests in Postgres under another key than the first one, while everything runs.

    Begin when every worker and every API has the new key first in its settings. It can be stopped and begun again. The
    exit code is 1 where something could not be encrypted anew. Old keys stay necessary for the topics.

    \b
    Example:
      ASSESSMENTSTORE_ENCRYPTION_KEYS=@keys assessmentstore encryption rotate
    """
    from ..settings import Settings, SettingsError
    from ..store.encryption import KeyRing
    from ..store.rotation import Rotated

    settings = Settings.load()
    keys = KeyRing.of(settings)
    if not keys:
        raise SettingsError("ASSESSMENTSTORE_ENCRYPTION_KEYS: there is no key to encrypt with")

    async def run() -> Rotated:
        async with _rotation(settings, keys) as rotation:
            with progress("encrypting anew") as report:
                return await rotation.run(report)

    done = asyncio.run(run())
    counts = {"resealed": done.resealed, "unreadable": done.unreadable, "passedOver": done.passed_over}
    print_json({"keyId": keys.current, **counts})
    if done.unreadable or done.passed_over:
        raise typer.Exit(1)


@asynccontextmanager
async def _rotation(settings: Settings, keys: KeyRing) -> AsyncIterator[Rotation]:
    from ..store.cache import SharedCache
    from ..store.postgres import open_pools
    from ..store.redis import open_redis
    from ..store.rotation import Rotation

    async with open_pools(settings, application="rotation") as pools, open_redis(settings) as redis:
        yield Rotation(pools.write, keys, SharedCache(redis, settings.topic_prefix))
