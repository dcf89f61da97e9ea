"""What is checked of the files of a configuration: of the given file or folder only, and no value is ever told."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ..models.result import AssessmentSeverity, IssueType
from .checks import Checks, Facts, Look, Rule, some
from .formats import SUFFIXES, settings_of
from .scope import Aspect
from .targets import Target

_MOST_FILES = 1000
_MOST_BYTES = 1024 * 1024

_REFERENCE = re.compile(r"^(\$|%\(|\{\{|<)")  # to a value that stands elsewhere
_SECRET = re.compile(
    r"passw(or)?d|passwd|requirepass|masterauth|secret|token|api[_.-]?key|private[_.-]?key|credential", re.IGNORECASE
)
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
        for place, key, value in settings_of(file):
            holds_secret = holds_secret or is_secret(key, value)
            for fault in faults(key, value):
                found[fault].append(f"{name}:{place}")
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


def _files(root: Path, *, deep: bool) -> tuple[list[Path], list[str]]:
    """The files to look into, and the names of those that are passed over: see `_is_readable`, and what is too much."""
    if not root.is_dir() and root.exists():
        return ([root], []) if _is_readable(root) else ([], [root.name])
    found: list[Path] = []
    passed_over: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=_refuse):
        subfolders[:] = sorted(subfolders) if deep else []
        for path in (Path(folder) / name for name in sorted(names)):
            if path.suffix not in SUFFIXES and not path.name.startswith(".env"):
                continue
            if len(found) == _MOST_FILES or not _is_readable(path):
                passed_over.append(str(path.relative_to(root)))
            else:
                found.append(path)
    return found, passed_over


def _is_readable(path: Path) -> bool:
    """Whether it is a file of a size that fits, and not a link to one, a pipe, or somebody else's."""
    is_file = path.is_file() and not path.is_symlink()
    return is_file and path.stat().st_size <= _MOST_BYTES and os.access(path, os.R_OK)


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
            words="Files not looked into, being links, over 1 MiB, not readable, or more than 1,000: {0[count]}.",
            advice="Give smaller folders as targets of their own.",
        ),
    ),
)
