"""Inspect one server: the checks of each type of assessment, and what they measure."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from ..models.assessment import AssessmentType
from ..services.model import Name
from .servers import KINDS, SERVER_ERRORS, Server


class Check(StrEnum):
    """What is looked at, in this order; a server that does not respond is not asked further."""

    RESPONSE_TIME = "response time"
    VERSION = "version"
    AUTHENTICATION = "authentication"
    TLS = "TLS"
    MEMORY = "memory"
    DISK = "disk"


CHECKS: Mapping[AssessmentType, tuple[Check, ...]] = {
    AssessmentType.HEALTH: (Check.RESPONSE_TIME, Check.VERSION, Check.MEMORY, Check.DISK),
    AssessmentType.SECURITY: (Check.RESPONSE_TIME, Check.AUTHENTICATION, Check.TLS),
    AssessmentType.COMPLIANCE: tuple(Check),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server to look at."""

    name: str
    kind: Name
    url: str

    @property
    def address(self) -> str:
        """Its `host:port`, without user and password."""
        netloc = urlsplit(self.url if "//" in self.url else f"//{self.url}").netloc
        return netloc.rpartition("@")[2].split(",")[0]

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was measured on one server; nothing where it was not asked, or does not tell."""

    target: Target
    error: str | None = None
    """Why it does not respond."""
    response_time: float | None = None
    """Milliseconds."""
    version: str | None = None
    authentication: bool | None = None
    tls: bool | None = None
    memory_left: float | None = None
    """The share of the machine's memory, 0 to 1."""
    disk_left: float | None = None
    """The share of the disk with the server's data, 0 to 1."""


async def inspect(target: Target, checks: tuple[Check, ...]) -> AsyncIterator[tuple[Check, Inspection]]:
    """Make the checks one after the other, and yield after each what is known by then."""
    server = KINDS[target.kind](target.url)
    known = Inspection(target=target)
    for check in checks:
        try:
            known = await _measure(check, server, known)
        except SERVER_ERRORS as error:
            known = replace(known, error=str(error) or type(error).__name__)
        yield check, known
        if known.error is not None:
            return


async def _measure(check: Check, server: Server, known: Inspection) -> Inspection:
    match check:
        case Check.RESPONSE_TIME:
            return replace(known, response_time=await server.response_time())
        case Check.VERSION:
            return replace(known, version=await server.version())
        case Check.AUTHENTICATION:
            return replace(known, authentication=await server.authentication())
        case Check.TLS:
            return replace(known, tls=await server.tls())
        case Check.MEMORY:
            return replace(known, memory_left=_memory_left() if known.target.is_local else None)
        case Check.DISK:
            folder = await server.data_folder() if known.target.is_local else None
            return replace(known, disk_left=_disk_left(folder))


def _memory_left() -> float:
    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)


def _disk_left(folder: str | None) -> float | None:
    # A server in a container names a folder that does not exist out here.
    if folder is None or not Path(folder).is_absolute() or not Path(folder).exists():
        return None
    usage = psutil.disk_usage(folder)
    return usage.free / usage.total
