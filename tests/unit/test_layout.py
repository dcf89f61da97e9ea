"""What a wheel would lack: the explicit package list agrees with the folders; and no SQL without a user."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from assessmentstore.store.queries import QUERIES

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


def test_the_package_list_names_every_folder_with_code() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])

    folders = {file.parent.relative_to(SRC) for file in SRC.rglob("__init__.py")}

    assert listed == {".".join(["assessmentstore", *folder.parts]) for folder in folders}


def test_package_data_names_every_file_that_is_not_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    data: dict[str, list[str]] = project["tool"]["setuptools"]["package-data"]

    missing = []
    for file in SRC.rglob("*"):
        if not file.is_file() or file.suffix in {".py", ".pyc"}:
            continue
        package = ".".join(["assessmentstore", *file.parent.relative_to(SRC).parts])
        if not any(file.match(pattern) for pattern in data.get(package, [])):
            missing.append(file.relative_to(ROOT))

    assert missing == []


def test_every_query_is_used_and_every_used_query_exists() -> None:
    code = "".join(file.read_text() for folder in ("store", "web") for file in (SRC / folder).glob("*.py"))

    used = set(re.findall(r'(?:QUERIES\[|\bWrite\(|\bwrite_rows\()"(\w+)"', code))

    assert used == set(QUERIES)
