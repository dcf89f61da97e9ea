"""What files of a configuration set, by their formats: each setting with the place where a reader finds it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from javaproperties import InvalidUEscapeError, KeyValue, parse


class Setting(NamedTuple):
    """One value under its name."""

    place: str
    """The number of its line and its name; or, where the parser tells no lines, the way to it, with dots."""
    key: str
    value: str


def settings_of(file: Path) -> list[Setting]:
    """All that a file sets; of one that is not of the format that its name says, what its lines say."""
    text = file.read_text(encoding="utf-8", errors="replace")
    read = _READERS.get(file.suffix, of_lines)
    try:
        return list(read(text))
    except (yaml.YAMLError, tomllib.TOMLDecodeError, InvalidUEscapeError, RecursionError):
        # A template, perhaps.
        return list(of_lines(text))


# Also where nothing but blanks stands between, as in many a `.conf`.
_LINE = re.compile(r"^\s*(?:export\s+)?[\"']?([A-Za-z][\w.\-]*)[\"']?(?:\s*[:=]\s*|\s+)(.*?)\s*;?\s*$")


def of_lines(text: str) -> Iterator[Setting]:
    """Shell variables, INI, and what is like them: a name and a value on each line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _LINE.match(line):
            value = re.split(r"\s[#;]", match[2], maxsplit=1)[0]
            yield Setting(f"{number} {match[1]}", match[1], value.strip().strip("\"'"))


def of_properties(text: str) -> Iterator[Setting]:
    """Java's properties, with values over several lines.

    Raises:
        InvalidUEscapeError: a `\\u` has no four digits behind it.
    """
    number = 1
    for part in parse(StringIO(text)):
        if isinstance(part, KeyValue):
            yield Setting(f"{number} {part.key}", part.key, part.value.strip())
        number += part.source.count("\n")


def of_toml(text: str) -> Iterator[Setting]:
    """TOML, with tables in tables.

    Raises:
        tomllib.TOMLDecodeError: it is none.
    """
    left: list[tuple[str, str, Any]] = [("", "", tomllib.loads(text))]
    while left:
        place, key, value = left.pop()
        if isinstance(value, dict):
            left += reversed([(f"{place}.{name}".lstrip("."), name, item) for name, item in value.items()])
        elif isinstance(value, list):
            left += [(place, key, item) for item in reversed(value)]
        else:
            yield Setting(place, key, str(value))


def of_yaml(text: str) -> list[Setting]:
    """YAML, whose values may stand in braces, over several lines, or under an anchor.

    Raises:
        yaml.YAMLError: it is none.
    """
    # Nothing is made of the nodes: what a tag or an alias stands for is looked at where it is written.
    found, seen = list[tuple[int, str, str]](), set[int]()
    left = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(value, yaml.ScalarNode) and isinstance(key, yaml.ScalarNode):
                    found.append((key.start_mark.line + 1, key.value, value.value.strip()))
                else:
                    left.append(value)
    return [Setting(f"{number} {key}", key, value) for number, key, value in sorted(found)]


_READERS: Mapping[str, Callable[[str], Iterator[Setting] | list[Setting]]] = {
    ".properties": of_properties,
    ".toml": of_toml,
    ".yaml": of_yaml,
    ".yml": of_yaml,
}

SUFFIXES = frozenset({".env", ".ini", ".conf", ".cfg", *_READERS})
"""The files that are looked into."""
