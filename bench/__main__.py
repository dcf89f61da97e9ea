"""Run the contenders in turns, and report."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import orjson

from .contenders import BARE, CONTENDERS, WORKER, NotInstalledError, install
from .installation import running_services
from .measure import measure_latency, measure_throughput
from .report import PACE, Result, as_json, text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [contender.name for contender in CONTENDERS]
    parser.add_argument("--commands", type=int, default=40_000, help="the backlog (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="0 leaves them out (default: %(default)s)")
    parser.add_argument("--only", choices=names, nargs="+", default=names, help="leave the others out")
    parser.add_argument("--pace", type=int, default=PACE, help="commands a second for latency (default: %(default)s)")
    parser.add_argument("--latency-seconds", type=float, default=20, help="0 leaves it out (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there too")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")
    return parser.parse_args()


async def _measure(arguments: argparse.Namespace) -> Result:
    result = Result()
    contenders = [contender for contender in CONTENDERS if contender.name in arguments.only]
    for contender in contenders if arguments.rounds else ():
        install(contender)
    async with running_services() as (settings, present):
        for number in range(1, arguments.rounds + 1):
            measured = {}
            for contender in contenders:
                each = await measure_throughput(contender, arguments.commands, settings, present)
                measured[contender.name] = each
                _tell(f"round {number}: {contender.name}: {each.rate:,.0f} transitions/s")
            result.rounds.append(measured)
        for contender in contenders if arguments.latency_seconds else ():
            if contender in (WORKER, BARE):
                _tell(f"latency: {contender.name}")
                pace, seconds = arguments.pace, arguments.latency_seconds
                result.latencies.append(await measure_latency(contender, pace, seconds, settings, present))
    return result


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, and tell whether the targets are met where that is asked."""
    arguments = _arguments()
    try:
        result = asyncio.run(_measure(arguments))
    except NotInstalledError as error:
        raise SystemExit(str(error)) from error
    print(text(result))
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(as_json(result), option=orjson.OPT_INDENT_2))
    return 1 if arguments.check and not result.met else 0


if __name__ == "__main__":
    raise SystemExit(main())
