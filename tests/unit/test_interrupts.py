"""Whoever is told to end tidies up and says how far he was, in whichever way he is told."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from assessmentstore import cli
from assessmentstore.output import BrokenOffError, measured, progress

_PROGRAM = """
import asyncio, os, signal
from assessmentstore.interrupts import end_as_by_ctrl_c

signal.signal(signal.SIGINT, {ctrl_c})
{before}
end_as_by_ctrl_c()

async def work():
    try:
        print("works", flush=True)
        {then}
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
    number: signal.Signals,
    *,
    ctrl_c: str = "signal.default_int_handler",
    before: str = "",
    then: str = "",
    seconds: int = 60,
) -> list[str]:
    return _ends(_PROGRAM.format(ctrl_c=ctrl_c, before=before, then=then, seconds=seconds), number)


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


@pytest.mark.parametrize("ctrl_c", ["signal.SIG_IGN", "signal.default_int_handler"])
def test_it_ends_also_where_it_is_told_so_while_it_begins_a_process(ctrl_c: str) -> None:
    """Python ignores whatever is raised in the hooks of a fork."""
    before = "os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGTERM))"

    told = _told(signal.SIGCONT, ctrl_c=ctrl_c, before=before, then="os.fork() or os._exit(0)", seconds=5)

    assert told == ["tidied up", "interrupted"]


def test_what_is_to_outlive_its_terminal_does() -> None:
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"

    assert _told(signal.SIGHUP, before=before, seconds=1) == ["tidied up"]


def test_a_bench_that_is_told_to_end_ends_its_services() -> None:
    assert _ends(_BENCH, signal.SIGTERM) == ["services end"]


def _import_a_third(interruption: type[BaseException]) -> None:
    with measured("importing", "records") as done:
        done.expect(3000)
        done.passed(1000)
        raise interruption


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, asyncio.CancelledError])
def test_a_task_of_known_size_that_is_broken_off_says_how_far_it_was(interruption: type[BaseException]) -> None:
    with pytest.raises(BrokenOffError) as told:
        _import_a_third(interruption)

    assert str(told.value) == "Broken off while importing: 1,000 of 3,000 records; run it again to finish"


def test_any_task_that_is_broken_off_is_named() -> None:
    with pytest.raises(BrokenOffError, match=r"^Broken off while deleting; run it again"), progress("deleting"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("command", [["import"], ["verify", "--export"]], ids=" ".join)
def test_a_command_that_is_broken_off_says_so_on_one_line(tmp_path: Path, command: list[str]) -> None:
    export = tmp_path / "export"
    os.mkfifo(export)  # which is at the place where it was opened until more comes
    whole = [sys.executable, "-m", "assessmentstore", "legacy", *command, str(export)]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as process, export.open("w"):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)

    assert re.fullmatch(r"Broken off while checking: \d+ of \d+ bytes; run it again to finish\n", told), told
    assert process.returncode == 130


def test_a_command_that_is_broken_off_before_it_has_begun_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)
    monkeypatch.setattr(cli, "end_as_by_ctrl_c", lambda: None)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert (ended.value.code, capsys.readouterr().err) == (130, "Broken off\n")
