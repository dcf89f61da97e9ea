"""All that rests of an installation, as bytes: what a thief of a disk, a dump or a topic would have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from rocksdict import AccessType, Options, Rdict

from assessmentstore.chaos.topics import read_topic

from .installation import Installation


async def everything(installation: Installation) -> dict[str, bytes]:
    """By where it rests: each table, the files of the database, each topic, Redis, and the workers' tables."""
    found = {f"table {name}": content async for name, content in _tables(installation)}
    found |= {name: content async for name, content in _database_files(installation)}
    found |= {f"topic {name}": content async for name, content in _topics(installation)}
    found["Redis"] = await _redis(installation)
    found |= dict(_rocks(installation.settings.data_dir))
    return found


async def _tables(installation: Installation) -> AsyncIterator[tuple[str, bytes]]:
    async with installation.database() as database:
        names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (name,) in names:
            rows = await database.fetch(f'SELECT stored::text FROM "{name}" AS stored')
            # Bytes are shown as hexadecimal digits: they are looked through as what they are, too.
            texts = [row[0] for row in rows]
            yield name, "\n".join([*texts, *map(_unhexed, texts)]).encode()


def _unhexed(text: str) -> str:
    parts = text.split("\\x")[1:]
    return " ".join(_bytes(part).decode("latin-1") for part in parts)


def _bytes(part: str) -> bytes:
    digits = part[: next((place for place, sign in enumerate(part) if sign not in "0123456789abcdef"), len(part))]
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


async def _database_files(installation: Installation) -> AsyncIterator[tuple[str, bytes]]:
    """Heap, indexes and what is behind them, after a checkpoint; nothing where Postgres is elsewhere."""
    async with installation.database() as database:
        await database.execute("CHECKPOINT")
        folder = Path(await database.fetchval("SHOW data_directory"))
        oid = await database.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    if (folder / "base" / str(oid)).is_dir():
        files = sorted((folder / "base" / str(oid)).iterdir())
        yield "database files", b"".join(file.read_bytes() for file in files)


async def _topics(installation: Installation) -> AsyncIterator[tuple[str, bytes]]:
    settings, many = installation.settings, installation.settings.topic_partitions
    counts = {
        settings.commands_topic: many,
        settings.events_topic: many,
        settings.rejections_topic: many,
        settings.dead_letters_topic: 1,
        settings.letter_marks_topic: 1,
        settings.checkpoints_topic: many,
    }
    for name, partitions in counts.items():
        records = [item for part in (await read_topic(settings, name, partitions)).values() for item in part]
        yield name, b"\n".join(b"%r %r %r" % (item.key, item.value, item.headers) for item in records)


async def _redis(installation: Installation) -> bytes:
    kept: list[Any] = []
    async with installation.redis() as redis:
        async for key in redis.scan_iter(match=f"{installation.settings.topic_prefix}*"):
            kept.append(key)
            kept.append(await (redis.hgetall(key) if await redis.type(key) == b"hash" else redis.dump(key)))
    return repr(kept).encode()


def _rocks(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files of the tables, whose workers have to be ended, and what is in them: blocks are compressed."""
    for table in sorted(folder.glob("worker-*/partition-*")):
        name = f"{table.parent.name} {table.name}"
        yield f"files of {name}", b"".join(file.read_bytes() for file in sorted(table.iterdir()) if file.is_file())
        opened = Rdict(str(table), Options(raw_mode=True), access_type=AccessType.read_only())
        yield f"RocksDB {name}", repr(list(opened.items())).encode()
        opened.close()
