"""Commands that the documents name are commands that there are, with the options that they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from assessmentstore.cli import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])

_BLOCK = re.compile(r"^(?:```\w*\n(?P<fenced>.*?)^```|(?P<indented>(?:^ {4}.*\n)+))", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`((?:assessmentstore|legacy|encryption|dead-letters|chaos) [^`]*)`", re.DOTALL)
# What stands in front of what is signed; docs/audit.md.
_NO_CALLS = {"audit checkpoint 1", "audit bundle 1"}
_CALL = re.compile(r"(?:^|[\s;(])assessmentstore ((?:[a-z-]+).*)$")
_ENDS = re.compile(r"\s[#|;>)&]|\)$|;$")


def _calls(text: str) -> Iterator[str]:
    """What stands behind the program's name, wherever a document calls it."""
    for block in _BLOCK.finditer(text):
        lines = (block["fenced"] or block["indented"]).replace("\\\n", " ").splitlines()
        for line in lines:
            if (found := _CALL.search(line)) and "docker" not in line and "helm" not in line and "kubectl" not in line:
                yield _ENDS.split(found[1])[0]
    for quoted in _INLINE.findall(_BLOCK.sub("", text)):
        yield " ".join(quoted.split()).removeprefix("assessmentstore ")


def _fault(call: str) -> str:
    """What is wrong with a call, or nothing; a group may be named alone, and more than one in a row with |."""
    command: Any = typer.main.get_command(app)
    options: dict[str, Any] = {}
    words = shlex.split(call.replace("…", ""))
    while words and hasattr(command, "commands"):
        name = words.pop(0)
        choices = name.split("|")
        if name.startswith(("-", "<")) or name.isupper():
            break
        if missing := [choice for choice in choices if choice not in command.commands]:
            return f"there is no command {missing[0]!r}"
        command = command.commands[choices[0]]
    options = {name: item for item in command.params for name in (*item.opts, *item.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"there is no option {unknown[0]}" if unknown and unknown[0] != "--help" else ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_exist_with_their_options(document: Path) -> None:
    calls = [call for call in _calls(document.read_text()) if call not in _NO_CALLS]
    wrong = {call: fault for call in calls if (fault := _fault(call))}

    assert not wrong


def test_calls_that_do_not_exist_are_found() -> None:
    text = "Say `assessmentstore gett a-1` or\n\n```sh\nx=1 assessmentstore list --stat failed  # no\n```\n"

    assert [_fault(call) for call in _calls(text)] == ["there is no option --stat", "there is no command 'gett'"]
