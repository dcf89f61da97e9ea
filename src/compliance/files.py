"""What is checked of the files of a configuration: of the given file or folder only, and no value is ever told."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule, some
from .scope import Aspect
from .targets import Target

_SUFFIXES = frozenset({".env", ".yaml", ".yml", ".ini", ".properties", ".conf", ".cfg", ".toml"})
_YAML = frozenset({".yaml", ".yml"})
_MOST_FILES = 1000
_MOST_BYTES = 1024 * 1024

Setting = tuple[int, str, str]
"""The number of a line, and the key and the value that it sets."""

# `key: value` and `key = value` are the same in all of these formats but YAML, as far as it matters here; parsers of
# the others do not tell lines.
_LINE = re.compile(r"^\s*(?:export\s+)?[\"']?([A-Za-z][\w.\-]*)[\"']?\s*[:=]\s*(.*?)\s*$")
_REFERENCE = re.compile(r"^(\$|%\(|\{\{|<)")  # to a value that stands elsewhere
_SECRET = re.compile(r"passw(or)?d|passwd|secret|token|api[_.-]?key|private[_.-]?key|credential", re.IGNORECASE)
_DEFAULTS = frozenset(
    {"admin", "administrator", "changeme", "change-me", "default", "guest", "password", "postgres", "root", "secret"}
    | {"test", "letmein", "123456", "12345678", "redis", "kafka"}
)
_URL_PASSWORD = re.compile(r"://[^:/@\s]*:([^@/\s]+)@")
_DEBUG = re.compile(r"(^|[_.-])debug$", re.IGNORECASE)
_TRUE = frozenset({"1", "true", "yes", "on"})
_TLS_KEY = re.compile(r"ssl|tls|verif", re.IGNORECASE)
_WEAK_VERSION = re.compile(r"\b(sslv?[23]|tlsv?1([._][01])?)\b(?![._]\d)", re.IGNORECASE)
_OFF = frozenset({"0", "false", "no", "off", "none", "disable", "disabled", "allow", "prefer", "cert_none"})
_VERIFYING = re.compile(r"(verif\w*|ssl[_.-]?mode|ssl|tls|(ssl|tls)[_.-]?enabled?)$", re.IGNORECASE)


def _look_into(target: Target, *, deep: bool) -> Facts:
    exposed: list[str] = []
    found: dict[str, list[str]] = {"defaultPasswords": [], "debugOn": [], "weakTls": []}
    files, passed_over = _files(target.path, deep=deep)
    for file in files:
        name = str(file.relative_to(target.path)) if file != target.path else file.name
        holds_secret = False
        for number, key, value in _settings(file):
            holds_secret = holds_secret or is_secret(key, value)
            for fault in faults(key, value):
                found[fault].append(f"{name}:{number} {key}")
        if holds_secret and file.stat().st_mode & stat.S_IROTH:
            exposed.append(name)
    return {
        "files": len(files),
        "passedOver": some(passed_over),
        "exposedSecrets": some(exposed),
        **{fault: some(places) for fault, places in found.items()},
    }


def is_secret(key: str, value: str) -> bool:
    """Whether a setting holds a secret itself, and not just says where one is."""
    if not value or _REFERENCE.match(value):
        return False
    in_url = _URL_PASSWORD.search(value)
    return bool(_SECRET.search(key)) or (in_url is not None and not _REFERENCE.match(in_url[1]))


def faults(key: str, value: str) -> Iterator[str]:
    """Name what is wrong with one setting, by the fact that it goes into."""
    lower = value.lower()
    in_url = _URL_PASSWORD.search(lower)
    if (_SECRET.search(key) and lower in _DEFAULTS) or (in_url is not None and in_url[1] in _DEFAULTS):
        yield "defaultPasswords"
    if _DEBUG.search(key) and lower in _TRUE:
        yield "debugOn"
    if _TLS_KEY.search(key) and (_WEAK_VERSION.search(lower) or (_VERIFYING.search(key) and lower in _OFF)):
        yield "weakTls"


def _settings(file: Path) -> Iterator[Setting]:
    """The number, key and value of each line that sets something."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if file.suffix in _YAML:
        try:
            yield from settings_of_yaml(text)
        except (yaml.YAMLError, RecursionError):
            pass  # a template, perhaps: its lines say what they say
        else:
            return
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _LINE.match(line):
            yield number, match[1], match[2].partition(" #")[0].strip().strip("\"'")


def settings_of_yaml(text: str) -> list[Setting]:
    """The same of YAML, whose values may stand in braces, over several lines, or under an anchor.

    Raises:
        yaml.YAMLError: it is none.
    """
    # Nothing is made of the nodes: what a tag or an alias stands for is looked at where it is written.
    found, seen = list[Setting](), set[int]()
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
    return sorted(found)


def _files(root: Path, *, deep: bool) -> tuple[list[Path], list[str]]:
    """The files to look into, and the names of those that are passed over: links, and what is too big or too much."""
    if root.is_file():
        return [root], []
    found: list[Path] = []
    passed_over: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = sorted(subfolders) if deep else []
        for path in (Path(folder) / name for name in sorted(names)):
            if path.suffix not in _SUFFIXES and not path.name.startswith(".env"):
                continue
            if path.is_symlink() or len(found) == _MOST_FILES or path.stat().st_size > _MOST_BYTES:
                passed_over.append(str(path.relative_to(root)))
            else:
                found.append(path)
    return found, passed_over


def _refuse(error: OSError) -> None:
    raise error


async def _top(target: Target) -> Facts:
    return await asyncio.to_thread(_look_into, target, deep=False)


async def _all(target: Target) -> Facts:
    return await asyncio.to_thread(_look_into, target, deep=True)


_HIGH, _MEDIUM, _LOW = AssessmentSeverity.HIGH, AssessmentSeverity.MEDIUM, AssessmentSeverity.LOW


def _places(
    name: str, fact: str, severity: AssessmentSeverity, aspect: Aspect = Aspect.SECURITY, *, words: str, advice: str
) -> Rule:
    return Rule(
        name=name,
        category="files",
        aspect=aspect,
        type=IssueType.SECURITY_ISSUE if aspect is Aspect.SECURITY else IssueType.INVALID_CONFIG,
        severity=severity,
        facts=(fact,),
        broken=lambda places: places["count"] > 0,
        words=words,
        advice=advice,
    )


FILES = Checks(
    looks=(Look(words="files", ask=_top), Look(words="subfolders", deep=True, ask=_all)),
    rules=(
        _places(
            "exposed_secrets",
            "exposedSecrets",
            AssessmentSeverity.CRITICAL,
            words="Files with secrets that every user of the machine can read: {0[count]}.",
            advice="Take the permission from others (chmod o-r), and change the secrets.",
        ),
        _places(
            "default_passwords",
            "defaultPasswords",
            _HIGH,
            words="Secrets that everybody tries first: {0[count]}.",
            advice="Make up a secret for each, at random.",
        ),
        _places(
            "weak_tls",
            "weakTls",
            _HIGH,
            words="Settings that turn TLS or its checks off, or allow versions before 1.2: {0[count]}.",
            advice="Turn them on, and set TLS 1.2 as the oldest version (RFC 8996).",
        ),
        _places(
            "debug",
            "debugOn",
            _MEDIUM,
            words="Settings that turn debugging on: {0[count]}.",
            advice="Turn it off where others use the program: it tells what is inside.",
        ),
        _places(
            "passed_over",
            "passedOver",
            _LOW,
            Aspect.CONFIGURATION,
            words="Files not looked into, being links, over 1 MiB, or more than 1,000: {0[count]}.",
            advice="Give smaller folders as targets of their own.",
        ),
    ),
)
