"""Count stale reads right after commands, with the Consistency-Token and without: `python -m bench.freshness`.

Two API processes read one streaming replica whose replay is paused and resumed at random, while workers are killed. One
of them has no Redis, so that its reads go to Postgres. Half of the commands are answered before they are applied. Each
command is followed by two reads at once, one with its token. A read is stale where it shows less than the command did.

Exit code 1: a read with the token was stale, or none without it was, so that the run showed nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from tests.harness.installation import Installation
from tests.harness.replica import Replica, open_replica
from tests.harness.web import Web, running_web
from tests.harness.worker import Cluster

from assessmentstore.models.positions import TOKEN_HEADER

from .installation import harnessed, running_services

_REQUEST: dict[str, Any] = {"assessmentType": "health", "options": {}}
_PARTITIONS = 4

# Less than takes a replica out of use, mostly: what is out of use shows nothing.
_LONGEST_PAUSE = 4.0
_LONGEST_FLOW = 0.5

# A command or a read that is not answered by then, after any number of 503s, ends the run.
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One assessment on one API process."""

    session: aiohttp.ClientSession
    url: str
    assessment_id: str

    async def __call__(
        self, method: str, path: str = "", body: Any = None, **headers: str
    ) -> tuple[int, Any, Mapping[str, str]]:
        """One request about the assessment."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        address = f"{self.url}/assessments{path}"
        async with self.session.request(method, address, json=body, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None), answer.headers


Surface = Callable[[Ask, int, dict[str, str]], Awaitable[int | None]]
"""Read an assessment in one way, after its progress, with these headers: the version shown, 0 for none, nothing for a
503."""


def _shown(path: str, version: Callable[[Any], int]) -> Surface:
    """A way to read: the path, with {id} and {progress} in it, and where the answer tells the version."""

    async def surface(ask: Ask, progress: int, headers: dict[str, str]) -> int | None:
        status, body, _ = await ask("GET", path.format(id=ask.assessment_id, progress=progress), **headers)
        if status == 503:
            return None
        return version(body) if status == 200 else 0

    return surface


def _in_page(body: Any) -> int:
    return max((int(item["version"]) for item in body["assessments"]), default=0)


def _is_counted(body: Any) -> int:
    """Statistics tell no version: an assessment is counted at the progress it has come to, or it is not."""
    return sys.maxsize if body["total"] else 0


SURFACES: dict[str, Surface] = {
    "get": _shown("/{id}", lambda body: int(body["version"])),
    "list": _shown("?serverName={id}", _in_page),
    "search": _shown("/search?q={id}", _in_page),
    "stats": _shown("/stats?serverName={id}&minProgress={progress}&maxProgress={progress}", _is_counted),
    "history": _shown("/{id}/history", lambda body: len(body["history"])),
}
"""The ways to read that are judged; another one is a line here."""


def _progress_at(version: int) -> int:
    return version % 101


@dataclass(slots=True)
class Tally:
    """What the reads of one kind came to."""

    reads: int = 0
    stale: int = 0
    late: int = 0
    """Answers 503: nothing was shown, and the read was asked again."""
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Run:
    """One run: its processes, and what was seen."""

    session: aiohttp.ClientSession
    webs: list[Web]
    left: int
    surfaces: list[str]
    tallies: dict[tuple[str, bool], Tally] = field(default_factory=dict)
    commands: Counter[str] = field(default_factory=Counter)

    def ask(self, assessment_id: str) -> Ask:
        """A way to one of the API processes, any."""
        return Ask(self.session, f"http://127.0.0.1:{random.choice(self.webs).port}", assessment_id)

    async def life(self, assessment_id: str) -> None:
        """One writer: command after command on an assessment of its own, two reads after each."""
        version = 0
        request = _REQUEST | {"assessmentId": assessment_id, "serverName": assessment_id}
        for path, body in (("", request), (f"/{assessment_id}/start", None)):
            version += 1
            await self._command(assessment_id, path, body)
        while self.left > 0:
            self.left -= 1
            version += 1
            prefer = {"Prefer": "respond-async"} if random.random() < 0.5 else {}
            token = await self._command(
                assessment_id, f"/{assessment_id}/progress", {"progress": _progress_at(version)}, **prefer
            )
            name = random.choice(self.surfaces)
            await asyncio.gather(
                self._read(name, assessment_id, version, {TOKEN_HEADER: token}),
                self._read(name, assessment_id, version, {}),
            )

    async def _command(self, assessment_id: str, path: str, body: Any, **headers: str) -> str:
        """Have a command taken, whatever dies meanwhile, and return its token."""
        key, end = str(uuid.uuid4()), time.monotonic() + _PATIENCE
        while True:
            status, answer, sent = await self.ask(assessment_id)("POST", path, body, Idempotency_Key=key, **headers)
            self.commands[str(status)] += 1
            if status in (200, 201, 202):
                return sent[TOKEN_HEADER]
            if status != 503 or time.monotonic() > end:
                raise AssertionError(f"POST {path}: {status} {answer}")

    async def _read(self, name: str, assessment_id: str, version: int, headers: dict[str, str]) -> None:
        tally = self.tallies.setdefault((name, bool(headers)), Tally())
        end = time.monotonic() + _PATIENCE
        while True:
            started = time.monotonic()
            seen = await SURFACES[name](self.ask(assessment_id), _progress_at(version), headers)
            tally.seconds.append(time.monotonic() - started)
            if seen is not None:
                break
            tally.late += 1
            if time.monotonic() > end:
                raise AssertionError(f"{name} of {assessment_id} is still answered 503")
        tally.reads += 1
        tally.stale += seen < version

    async def sources(self) -> Counter[str]:
        """Who answered the reads."""
        found: Counter[str] = Counter()
        for web in self.webs:
            async with self.session.get(f"http://127.0.0.1:{web.port}/metrics") as answer:
                for line in (await answer.text()).splitlines():
                    if line.startswith(("assessmentstore_reads_total{", "assessmentstore_read_fallbacks_total{")):
                        found[line.split('"')[1]] += int(float(line.rpartition(" ")[2]))
        return found


async def _stutter(replica: Replica) -> None:
    """Pause and resume the replay at random."""
    while True:
        await replica.pause()
        await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE))
        await replica.resume()
        await asyncio.sleep(random.uniform(0, _LONGEST_FLOW))


async def _kill(cluster: Cluster, every: float) -> None:
    """Kill the oldest worker now and then, and start another."""
    while True:
        await asyncio.sleep(every)
        cluster.workers[-2].kill9()
        cluster.start()


@asynccontextmanager
async def _beside(*works: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error


async def _run(arguments: argparse.Namespace) -> tuple[Run, Counter[str], int]:
    async with (
        running_services() as (services, _),
        harnessed(services, "freshness", topic_partitions=_PARTITIONS) as installation,
        open_replica(services.database_url) as replica,
    ):
        url = replica.url(installation.settings.database_url)
        shared = Installation(installation.settings.model_copy(update={"database_replica_urls": url}))
        without_redis = Installation(shared.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
        cluster = Cluster(installation)
        try:
            for _ in range(2):
                cluster.start()
            await cluster.until_owned_by(*cluster.workers)
            async with running_web(shared) as one, running_web(without_redis) as two, _session(one) as session:
                run = Run(session, [one, two], arguments.n, arguments.only)
                async with _beside(_stutter(replica), _kill(cluster, arguments.kill_every), _progress(run)):
                    await asyncio.gather(*(run.life(f"a{number:04}") for number in range(arguments.writers)))
                return run, await run.sources(), len(cluster.workers) - 2
        finally:
            cluster.destroy()


def _session(web: Web) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {web.token()}"}
    return aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))


async def _progress(run: Run) -> None:
    while True:
        await asyncio.sleep(10)
        print(f"{max(run.left, 0)} pairs to go", file=sys.stderr, flush=True)


def _report(run: Run, sources: Counter[str], killed: int) -> int:
    print(f"{'read':<8} {'token':<8} {'reads':>8} {'stale':>8} {'503':>6} {'p50 ms':>8} {'p99 ms':>8}")
    totals = Counter[bool]()
    for (name, with_token), tally in sorted(run.tallies.items()):
        totals[with_token] += tally.stale
        cuts = [cut * 1000 for cut in statistics.quantiles(tally.seconds, n=100)]
        row = f"{tally.reads:>8} {tally.stale:>8} {tally.late:>6} {cuts[49]:>8.1f} {cuts[98]:>8.1f}"
        print(f"{name:<8} {'with' if with_token else 'without':<8} {row}")
    print(f"commands by status: {dict(run.commands)}; workers killed: {killed}")
    print(f"reads by who answered, and fallbacks by why: {dict(sources)}")
    if totals[True]:
        print("FAILED: a reader with the token was shown less than it had been promised")
    if not totals[False]:
        print("FAILED: nobody missed anything without the token, so that the run shows nothing")
    return 1 if totals[True] or not totals[False] else 0


def main() -> int:
    """Run, print, and tell whether the token kept its promise."""
    parser = argparse.ArgumentParser(prog="python -m bench.freshness", description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="commands, each with two reads (default: %(default)s)")
    parser.add_argument("--writers", type=int, default=16, help="at once (default: %(default)s)")
    parser.add_argument("--kill-every", type=float, default=10, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--only", choices=list(SURFACES), nargs="+", default=list(SURFACES), help="leave others out")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: %(default)s)")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with contextlib.suppress(KeyboardInterrupt):
        return _report(*asyncio.run(_run(arguments)))
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
