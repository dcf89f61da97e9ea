"""The servers that may be looked at: those given to this server when it starts, and no others, whatever is asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from ..models.assessment import AssessmentRequest
from .kafka_access import kafka_access


class Kind(StrEnum):
    """What can be looked at."""

    KAFKA = "kafka"
    POSTGRES = "postgres"
    REDIS = "redis"
    HTTP = "http"
    TLS = "tls"
    FILES = "files"


_SCHEMES: Mapping[str, Kind] = {
    "kafka": Kind.KAFKA,
    "postgresql": Kind.POSTGRES,
    "postgres": Kind.POSTGRES,
    "redis": Kind.REDIS,
    "rediss": Kind.REDIS,
    "http": Kind.HTTP,
    "https": Kind.HTTP,
    "tls": Kind.TLS,
    "file": Kind.FILES,
}
_OF_ONE_ADDRESS = frozenset({Kind.REDIS, Kind.HTTP, Kind.TLS})


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to look at, or a file or folder of its configuration."""

    name: str
    kind: Kind
    url: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name=url`, the kind being that of the URL's scheme.

        Raises:
            ValueError: it is no such thing; the message does not repeat the URL, which may have a password.
        """
        name, _, url = text.partition("=")
        scheme, found, rest = url.partition("://")
        kind = _SCHEMES.get(scheme)
        if not name or not found or kind is None or not rest.strip("/"):
            raise ValueError(f"target {name!r}: expected name=url with a URL of {', '.join(_SCHEMES)}")
        target = cls(name=name, kind=kind, url=url)
        if kind in _OF_ONE_ADDRESS and not _has_host_and_port(target):
            raise ValueError(f"target {name!r}: expected {scheme}://host, and perhaps :port")
        if kind is Kind.TLS and target.port is None:
            raise ValueError(f"target {name!r}: expected tls://host:port")
        if kind is Kind.KAFKA:
            try:
                kafka_access(url)
            except ValueError as error:
                raise ValueError(f"target {name!r}: {error}") from error
        return target

    @property
    def address(self) -> str:
        """Its `host:port`, several with commas between, or its path; never a user or a password."""
        return str(self.path) if self.kind is Kind.FILES else urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def path(self) -> Path:
        """The file or folder, of a target that is one."""
        return Path(unquote(urlsplit(self.url).path))

    @property
    def host(self) -> str:
        """The host, of a target that has one address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        """The port, where the URL of a target that has one address names one.

        Raises:
            ValueError: it is no port.
        """
        return urlsplit(self.url).port

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.kind is Kind.FILES or all(map(_is_loopback, self.address.split(",")))


@dataclass(frozen=True)
class Catalogue:
    """The targets by name, in the order in which they were given."""

    targets: Mapping[str, Target]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """Read `name=url` of each.

        Raises:
            ValueError: there is none, one cannot be read, or two have the same name.
        """
        targets: dict[str, Target] = {}
        for target in map(Target.parse, texts):
            if target.name in targets:
                raise ValueError(f"target {target.name!r} is given twice: give each server a name of its own")
            targets[target.name] = target
        if not targets:
            raise ValueError("there is nothing to look at: give at least one target as name=url")
        return cls(targets)

    def choose(self, request: AssessmentRequest) -> tuple[list[Target], list[str]]:
        """Return the targets that a request is about, and the names or patterns that are those of none.

        The patterns of `options.serverFilter` decide, without these the `serverName`; without either it is about all.
        """
        patterns = request.options.server_filter or ([request.server_name] if request.server_name else ["*"])
        chosen = [
            target for name, target in self.targets.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        missing = [
            pattern
            for pattern in dict.fromkeys(patterns)
            if not any(fnmatchcase(target.name, pattern) for target in chosen)
        ]
        return chosen, missing


def _has_host_and_port(target: Target) -> bool:
    try:
        return bool(target.host) and target.port != 0
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    host = urlsplit(f"//{address}").hostname or "localhost"  # a Postgres without a host is one by its socket
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
