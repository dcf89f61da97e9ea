"""What the rest of the program sees of the services: their names, where they are, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..settings import ENV_PREFIX, Settings

Name = Literal["kafka", "postgres", "redis"]
How = Literal["environment", "docker", "local"]

FIELDS: Mapping[Name, str] = {"kafka": "kafka_bootstrap", "postgres": "database_url", "redis": "redis_url"}
"""The field of `Settings` that holds the address of each service."""
NAMES: tuple[Name, ...] = ("kafka", "postgres", "redis")


class ServicesError(Exception):
    """A service cannot be started, found or stopped; the message says which, why, and what to do."""


class MissingError(Exception):
    """This machine lacks what a service needs to run as a local process; the message says what to install."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service, and how it came to be there."""

    name: Name
    how: How
    url: str
    """Kafka: `host:port`; Postgres and Redis: a URL."""
    detail: str
    """What it is, for people: the variable, the image or the executable."""
    pid: int | None = None
    """Its process, when it is a local one."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services that are there."""

    services: tuple[Service, ...]
    started: frozenset[Name] = frozenset()
    """Those that were started by the call that returned this; the others were there before."""

    def environment(self) -> dict[str, str]:
        """Return the environment variables that lead a program to these services."""
        return {variable(service.name): service.url for service in self.services}

    def apply(self, settings: Settings) -> Settings:
        """Return the settings with the addresses of these services."""
        return settings.model_copy(update={FIELDS[service.name]: service.url for service in self.services})


def variable(name: Name) -> str:
    """Return the environment variable that holds the address of a service."""
    return ENV_PREFIX + FIELDS[name].upper()
