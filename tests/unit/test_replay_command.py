"""The command `replay` before it touches anything, and how a long task tells how far it is."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from assessmentstore.cli import app
from assessmentstore.output import measured


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--caches", "--to-kafka"], "choose one"),
        (["--schema", "may", "--caches"], "choose one"),
        (["--assessment", "a1", "--to-kafka"], "choose one"),
        (["--until", "2026-05-01T00:00:00Z"], "add --schema NAME"),
        (["--until-offset", "3:1200"], "add --schema NAME"),
        (["--schema", "may", "--until", "yesterday"], "'yesterday' is no time"),
        (["--schema", "may", "--until-offset", "3"], "'3' is no PARTITION:OFFSET"),
        (["--schema", "may", "--until-offset", "3:5", "--until-offset", "3:9"], "named twice"),
        (["--schema", "may", "--until", "0001-01-01T00:00:00+01:00"], "is no time"),
        (["--schema", "public"], "'public' is no name for a side schema"),
        (["--schema", "may", "--until-offset", "1000:5"], "there is no partition 1000"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_done(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["replay", *options])

    assert result.exit_code in (1, 2)
    assert words in re.sub(r"\s+", " ", result.stderr)


def test_a_long_task_tells_its_rate_and_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with measured("rebuilding", "records") as progress:
        progress.expect(3000)
        progress.passed(1000)

    told = capsys.readouterr().err
    assert re.fullmatch(r"rebuilding: 1,000 of 3,000 records, [\d,]+/s, 0:00 left\n", told), told
