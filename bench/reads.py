"""How long reads take with very many assessments stored, while a worker applies commands at a steady pace.

python -m bench.reads --count 1000000 --pace 1000 --reads 20 --seconds 60

Reads begin at a steady pace too, whether those before have ended or not, and each is timed from the moment when it had
to begin: a slow answer is not left out by asking less.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from itertools import islice
from urllib.parse import urlencode

import aiohttp
import uvloop
from pydantic import SecretStr

from assessmentstore.settings import Settings
from assessmentstore.web.auth import Role, mint_token

from .contenders import SECRET, WEB, WORKER, running, until_ready
from .fill import OWNERS, assessments, fill
from .installation import fresh_installation, running_services
from .measure import send_at_pace
from .workload import LIFE, commands

_LIFETIME = timedelta(hours=1)
# What was just filled is in nobody's memory, and Postgres writes a page whole when it changes first after a checkpoint.
_WARM_UP_SECONDS = 20.0
_KNOWN_IDS = 20_000
# The load comes as from a producer that sends in batches: with a request for each command, half of what the machine has
# would go to those, and not to what is measured.
_LINGER_MS = 20
TARGETS = {"get": 10.0, "list": 100.0, "search": 100.0, "stats": 100.0}
"""Milliseconds that 95 of 100 reads stay below."""

_WORDS = ["berlin", "postgres", "certificate expired", "disk almost", "certifcate", "gateway lima", "installer"]


def _reads(dice: random.Random, ids: list[str]) -> Iterator[tuple[str, str]]:
    """Reads as a client and a dashboard make them: their kind and their path, for ever."""
    while True:
        now = datetime.now(UTC)
        filters = [
            {},
            {"state": dice.choice(["processing", "failed", "completed"])},
            {"type": "security", "sortBy": dice.choice(["updatedAt", "priority", "progress"])},
            {"serverName": dice.choice(["web-*", "*lima*", "vault-oslo-007"])},
            {"createdAfter": (now - timedelta(days=dice.choice([1, 7, 300]))).isoformat()},
            {"minPriority": "8", "source": "installer", "sortOrder": "asc"},
            {"offset": str(dice.randrange(1000))},
        ]
        words = dice.choice([*_WORDS, dice.choice(ids)[:8], dice.choice(ids)])
        counted = [
            {},
            {"state": dice.choice(["processing", "failed", "completed"])},
            {"type": "security", "source": "installer"},
            {"timezone": "Asia/Kolkata"},
            {"serverName": dice.choice(["web-*", "*lima*", "vault-oslo-007"])},
            {"minPriority": "8"},
            {"createdAfter": (now - timedelta(days=dice.choice([1, 7]))).isoformat()},
        ]
        yield "get", f"/assessments/{dice.choice(ids)}"
        yield "list", f"/assessments?{urlencode(dice.choice(filters))}"
        yield "search", f"/assessments/search?{urlencode({'q': words})}"
        yield "stats", f"/assessments/stats?{urlencode(dice.choice(counted))}"


async def _read(session: aiohttp.ClientSession, url: str, token: str, due: float) -> float:
    """Read, and tell the milliseconds since it was due."""
    async with session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
        await answer.read()
        if answer.status != HTTPStatus.OK:
            raise AssertionError(f"{answer.status} from {url}")
    return (time.perf_counter() - due) * 1000


async def _measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    async with running_services() as (settings, _), fresh_installation(settings, "reads") as own:
        chosen = own.model_copy(update={"jwt_secret": SecretStr(SECRET)})
        started = time.perf_counter()
        await fill(chosen.database_url, arguments.count)
        print(f"{arguments.count:,} assessments stored in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        ids = [record.assessment_id for record in islice(assessments(arguments.count), _KNOWN_IDS)]
        async with running(WORKER, chosen) as worker, running(WEB, chosen) as web:
            await until_ready(worker, web)
            with _loading(chosen, arguments.pace):
                await _read_for(_WARM_UP_SECONDS, arguments.reads, web.port, ids)
                return await _read_for(arguments.seconds, arguments.reads, web.port, ids)


async def _read_for(seconds: float, rate: float, port: int, ids: list[str]) -> dict[str, list[float]]:
    """Read at a pace, for a while as ADMIN, who may see all, and as a user."""
    dice, started = random.Random(1), time.perf_counter()
    tokens = [mint_token(SECRET, f"user-{number}", [Role.USER], _LIFETIME) for number in range(OWNERS)]
    admin = mint_token(SECRET, "root", [Role.ADMIN], _LIFETIME)
    reads: defaultdict[str, list[asyncio.Task[float]]] = defaultdict(list)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for number, (kind, path) in enumerate(islice(_reads(dice, ids), int(seconds * rate))):
            due = started + number / rate
            await asyncio.sleep(due - time.perf_counter())
            token = admin if kind == "get" or dice.random() < 1 / 2 else dice.choice(tokens)
            url = f"http://127.0.0.1:{port}{path}"
            reads[kind].append(group.create_task(_read(session, url, token, due)))
    return {kind: [task.result() for task in tasks] for kind, tasks in reads.items()}


@contextmanager
def _loading(settings: Settings, rate: int) -> Iterator[None]:
    """Send commands meanwhile, from a process of its own: readers must not wait for the loop that also sends."""
    process = multiprocessing.get_context("spawn").Process(target=_load, args=(settings, rate), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _load(settings: Settings, rate: int) -> None:
    """Send commands at a steady pace, until ended."""

    async def send() -> None:
        for number in itertools.count():
            messages = list(commands(rate * 10 // len(LIFE) * len(LIFE), name=f"load {os.getpid()} {number}"))
            await send_at_pace(settings, messages, rate, {}, linger_ms=_LINGER_MS)

    if rate:
        uvloop.run(send())


def main() -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="stored (default: %(default)s)")
    parser.add_argument("--pace", type=int, default=1000, help="commands a second (default: %(default)s)")
    parser.add_argument("--reads", type=float, default=20, help="reads a second, of four kinds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    arguments = parser.parse_args()
    taken, missed = uvloop.run(_measure(arguments)), 0
    print(f"{'milliseconds':<12} {'reads':>7} {'p50':>8} {'p95':>8} {'p99':>8}   target")
    for kind, target in TARGETS.items():
        p = statistics.quantiles(taken[kind], n=100, method="inclusive")
        missed += p[94] >= target
        verdict = "met" if p[94] < target else "missed"
        print(
            f"{kind:<12} {len(taken[kind]):>7} {p[49]:>8.1f} {p[94]:>8.1f} {p[98]:>8.1f}   p95 < {target:g}: {verdict}"
        )
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
