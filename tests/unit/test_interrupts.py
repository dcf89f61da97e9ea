"""Whoever is told to end tidies up, in whichever way he is told."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import asyncio, signal
from assessmentstore.interrupts import end_as_by_ctrl_c

signal.signal(signal.SIGINT, {ctrl_c})
{before}
end_as_by_ctrl_c()

async def work():
    try:
        print("works", flush=True)
        await asyncio.sleep({seconds})
    finally:
        await asyncio.sleep(0)
        print("tidied up")

try:
    asyncio.run(work())
except KeyboardInterrupt:
    print("interrupted")
"""

_BENCH = """
import asyncio
from bench import installation
from assessmentstore.services import Services

async def up(settings):
    return Services(services=())

async def down(settings):
    print("services end")

installation.services.up, installation.services.down = up, down

async def measure():
    async with installation.running_services():
        print("works", flush=True)
        await asyncio.sleep(60)

asyncio.run(measure())
"""


def _told(
    number: signal.Signals, *, ctrl_c: str = "signal.default_int_handler", before: str = "", seconds: int = 60
) -> list[str]:
    return _ends(_PROGRAM.format(ctrl_c=ctrl_c, before=before, seconds=seconds), number)


def _ends(program: str, number: signal.Signals) -> list[str]:
    """What a program says that is told to end as soon as it works."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "works\n"
        process.send_signal(number)
        return process.communicate(timeout=60)[0].splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_each_way_is_that_of_ctrl_c(number: signal.Signals) -> None:
    assert _told(number) == ["tidied up", "interrupted"]


def test_it_ends_also_where_ctrl_c_is_ignored_as_in_the_background_of_a_shell() -> None:
    assert _told(signal.SIGTERM, ctrl_c="signal.SIG_IGN") == ["tidied up", "interrupted"]


def test_what_is_to_outlive_its_terminal_does() -> None:
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"

    assert _told(signal.SIGHUP, before=before, seconds=1) == ["tidied up"]


def test_a_bench_that_is_told_to_end_ends_its_services() -> None:
    assert _ends(_BENCH, signal.SIGTERM) == ["services end"]
