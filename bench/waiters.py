"""Let thousands wait on one web process while it and the workers restart: `python -m bench.waiters`.

Each waiter asks `GET /assessments/{id}/wait` again, as the client does, until it has an answer. While they wait, the
web is stopped and killed once each and comes back on the same port, and so is a worker; in the middle of this the
assessments end. Every waiter has to get one answer, and it has to be what is stored.

Exit code 1: an answer is missing or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil
from tests.harness.installation import Installation
from tests.harness.load import open_sender
from tests.harness.waiting import eventually
from tests.harness.web import Web
from tests.harness.worker import Cluster

from assessmentstore.chaos.messages import command, create

from .installation import harnessed, running_services

_PATIENCE = 300.0
_WAIT_MILLISECONDS = 60_000
_ENDS = ("complete", "fail", "cancel")
_DATA: dict[str, Any] = {"complete": {"result": {"overallScore": 97}}, "fail": {"error": "it broke"}}
_STATES = {"complete": "completed", "fail": "failed", "cancel": "cancelled"}

# Who lost a connection comes back within this, each at a moment of his own.
_COME_BACK_SECONDS = 2.0
_RETRIED = frozenset({408, 429, 503})


@dataclass(slots=True)
class Run:
    """What the waiters saw."""

    answers: list[tuple[str, Any]] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)


async def _wait(run: Run, session: aiohttp.ClientSession, url: str, assessment_id: str) -> None:
    """Ask until there is an answer."""
    while True:
        try:
            async with session.get(f"{url}/assessments/{assessment_id}/wait?timeout={_WAIT_MILLISECONDS}") as answer:
                run.tries[str(answer.status)] += 1
                body = await answer.json(content_type=None)
                if answer.status not in _RETRIED:
                    run.answers.append((assessment_id, body.get("status")))
                    return
        except aiohttp.ClientError:
            run.tries["connection lost"] += 1
        await asyncio.sleep(random.uniform(0, _COME_BACK_SECONDS))


async def _measure(arguments: argparse.Namespace) -> int:
    async with running_services() as (services, _), harnessed(services, "waiters", rate_limit=0.0) as installation:
        cluster, web = Cluster(installation), Web(installation)
        try:
            for _ in range(2):
                cluster.start()
            await web.until_ready()
            await cluster.until_owned_by(*cluster.workers)
            return await _with_waiters(arguments, installation, cluster, web)
        finally:
            web.destroy()
            cluster.destroy()


async def _with_waiters(arguments: argparse.Namespace, installation: Installation, cluster: Cluster, web: Web) -> int:
    names = [f"a-{number:05}" for number in range(arguments.assessments)]
    ends = {name: random.choice(_ENDS) for name in names}
    async with open_sender(installation) as sender:
        await sender.send(*(create(f"create-{name}", name, userid="alice") for name in names))
        await sender.send(*(command(f"start-{name}", "start", name) for name in names))
        await eventually(lambda: _stored(installation, "processing", len(names)), "the assessments", deadline=_PATIENCE)
        run, before = Run(), psutil.Process(web.process.pid).memory_info().rss
        headers = {"Authorization": f"Bearer {web.token()}"}
        connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            url = f"http://127.0.0.1:{web.port}"
            chosen = [names[number % len(names)] for number in range(arguments.waiters)]
            waiters = [asyncio.create_task(_wait(run, session, url, name)) for name in chosen]
            await _until_waiting(session, url, arguments.waiters)
            each = (psutil.Process(web.process.pid).memory_info().rss - before) / arguments.waiters / 1024
            print(f"{arguments.waiters:,} wait; {each:.1f} KiB each", file=sys.stderr, flush=True)
            web = await _restart(installation, web, kill=False)
            await _until_waiting(session, url, arguments.waiters)
            started = time.monotonic()
            ending = asyncio.create_task(_end(sender, ends))
            cluster.workers[0].kill9()
            cluster.start()
            web = await _restart(installation, web, kill=True)
            await ending
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*waiters)
            seconds = time.monotonic() - started
        web.destroy()
    return _report(run, chosen, ends, each, seconds)


async def _restart(installation: Installation, web: Web, *, kill: bool) -> Web:
    """End the web, by force or in good order, and start it again on its port."""
    if kill:
        web.destroy()
    else:
        web.process.terminate()
        await asyncio.to_thread(web.process.wait)
    again = Web(installation, port=web.port)
    await again.until_ready()
    return again


async def _end(sender: Any, ends: dict[str, str]) -> None:
    """End all assessments, some at a time."""
    messages = [command(f"end-{name}", end, name, _DATA.get(end)) for name, end in ends.items()]
    for start in range(0, len(messages), 100):
        await sender.send(*messages[start : start + 100])


async def _until_waiting(session: aiohttp.ClientSession, url: str, count: int) -> None:
    async def waiting() -> bool:
        async with session.get(f"{url}/metrics") as answer:
            return f"assessmentstore_waiters {float(count)}" in await answer.text()

    await eventually(waiting, f"{count} waiters", deadline=_PATIENCE, tolerate=(aiohttp.ClientError,))


async def _stored(installation: Installation, state: str, count: int) -> bool:
    async with installation.database() as database:
        found: int = await database.fetchval("SELECT count(*) FROM assessment_states WHERE state = $1", state)
    return found == count


def _report(run: Run, chosen: list[str], ends: dict[str, str], each: float, seconds: float) -> int:
    wrong = [(name, status) for name, status in run.answers if status != _STATES[ends[name]]]
    missing = Counter(chosen) - Counter(name for name, _ in run.answers)
    print(f"{len(run.answers):,} answers for {len(chosen):,} waiters; {len(wrong)} wrong, {missing.total()} missing")
    print(f"all had theirs {seconds:.1f} s after the first end; a web and a worker were killed meanwhile")
    print(f"tries by what came of them: {dict(run.tries)}; tries a waiter: {run.tries.total() / len(chosen):.1f}")
    print(f"memory of the web: {each:.1f} KiB a waiter, with its connection")
    return 1 if wrong or missing or len(run.answers) != len(chosen) else 0


def main() -> int:
    """Run, print, and tell whether everybody had a true answer."""
    parser = argparse.ArgumentParser(prog="python -m bench.waiters", description=__doc__)
    parser.add_argument("--waiters", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--assessments", type=int, default=2_000, help="default: %(default)s")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return asyncio.run(_measure(arguments))


if __name__ == "__main__":
    sys.exit(main())
