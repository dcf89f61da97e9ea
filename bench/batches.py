"""Batch creates over HTTP beside the same commands put on Kafka directly, in turns; both until all are applied."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
from pydantic import SecretStr

from assessmentstore.models.commands import CommandType
from assessmentstore.models.envelope import encode_command
from assessmentstore.settings import Settings
from assessmentstore.store.batches import BulkReader
from assessmentstore.store.postgres import open_pools
from assessmentstore.web.auth import Role, mint_token

from .contenders import SECRET, WEB, WORKER, running, until_ready
from .installation import fresh_installation, running_services
from .workload import Message, produce

_POLL_SECONDS = 0.02


def _request() -> dict[str, Any]:
    """A request of a usual size."""
    return {
        "assessmentId": str(uuid4()),
        "assessmentType": "compliance",
        "serverName": "server-0042.example.com",
        "source": "installer",
        "options": {"includeDetails": True, "generateReport": True, "serverFilter": ["server-*"]},
        "metadata": {"team": "platform", "ticket": "OPS-12345"},
    }


async def _over_http(session: aiohttp.ClientSession, count: int) -> float:
    """Create so many in one request, and tell how many seconds the answer took."""
    requests = [_request() for _ in range(count)]
    started = time.perf_counter()
    async with session.post("/assessments/batch", json=requests) as answer:
        body = await answer.json()
    seconds = time.perf_counter() - started
    assert body == {"assessmentIds": [request["assessmentId"] for request in requests], "errors": []}, body
    return seconds


async def _over_kafka(settings: Settings, reader: BulkReader, count: int) -> float:
    """Put as many creates on the topic, and tell how many seconds passed until all are applied."""
    messages = [_message(_request()) for _ in range(count)]
    started = time.perf_counter()
    await produce(settings, messages)
    expected = {message.command_id: b"" for message in messages}
    while len(await reader.outcomes(expected)) < count:  # noqa: ASYNC110 - the worker is another process
        await asyncio.sleep(_POLL_SECONDS)
    return time.perf_counter() - started


def _message(request: dict[str, Any]) -> Message:
    command_id, assessment_id = str(uuid4()), request["assessmentId"]
    value = encode_command(
        command_id=command_id,
        command_type=CommandType.CREATE,
        assessment_id=assessment_id,
        source="/bench",
        time=datetime.now(UTC),
        data=request,
        userid="bench-user",
    )
    return Message(command_id, assessment_id.encode(), value)


async def _measure(count: int, rounds: int) -> list[tuple[float, float]]:
    token = mint_token(SECRET, "bench-user", [Role.USER], timedelta(hours=1))
    async with (
        running_services() as (settings, _),
        fresh_installation(settings, "batches") as own,
        running(WORKER, own),
        running(WEB, own.model_copy(update={"jwt_secret": SecretStr(SECRET)})) as web,
        open_pools(own, application="bench") as pools,
        aiohttp.ClientSession(f"http://127.0.0.1:{web.port}", headers={"Authorization": f"Bearer {token}"}) as session,
    ):
        await until_ready(web)
        reader, results = BulkReader(pools.write), []
        for number in range(rounds + 1):
            seconds = await _over_http(session, count), await _over_kafka(own, reader, count)
            # The first round opens connections and warms up.
            if number:
                results.append(seconds)
                print(f"round {number}: batch {count / seconds[0]:,.0f}/s, Kafka {count / seconds[1]:,.0f}/s")
    return results


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__)
    parser.add_argument("--items", type=int, default=10_000, help="of a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()
    results = asyncio.run(_measure(arguments.items, arguments.rounds))
    http, kafka = (statistics.median(side) for side in zip(*results, strict=True))
    print(
        f"median: batch route {arguments.items / http:,.0f} items/s, Kafka directly {arguments.items / kafka:,.0f}"
        f" commands/s; the route keeps {kafka / http:.2f} of the pace of Kafka"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
