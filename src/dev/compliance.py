"""The sample compliance server as a child of `dev`: what it may look at, and how the worker finds it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..models.base import JsonObject
from ..services import Services
from ..services.processes import free_ports
from ..settings import ENV_PREFIX, Settings
from .access import local_url

NAME = "compliance-server"
# Below those that the kernel gives to outgoing connections.
_PORTS = range(20_000, 30_000)


@dataclass(frozen=True, kw_only=True)
class ComplianceServer:
    """Where it is, its key, and its targets by name."""

    servers: Mapping[str, str]
    troublesome: Mapping[str, str]
    port: int = field(default_factory=lambda: free_ports(1, _PORTS)[0])
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return local_url(self.port)

    def environment(self) -> JsonObject:
        """The variables that it and the worker find each other by; everybody on the machine would see arguments."""
        targets = {**self.servers, **self.troublesome}
        return {
            f"{ENV_PREFIX}COMPLIANCE_URL": self.url,
            f"{ENV_PREFIX}COMPLIANCE_API_KEY": self.key,
            f"{ENV_PREFIX}COMPLIANCE_TARGETS": " ".join(f"{name}={url}" for name, url in targets.items()),
        }


@asynccontextmanager
async def compliance_server(settings: Settings, services: Services) -> AsyncIterator[ComplianceServer]:
    """Name what there is to look at: the services, worker and web, and two servers that make trouble."""
    addresses: dict[str, str] = {service.name: service.url for service in services.services}
    servers = {
        **addresses,
        "kafka": f"kafka://{addresses['kafka']}",
        "web": f"{local_url(settings.http_port)}/health",
        "worker": f"{local_url(settings.worker_port)}/health",
    }
    async with _troublesome_servers() as troublesome:
        yield ComplianceServer(servers=servers, troublesome=troublesome)


@asynccontextmanager
async def _troublesome_servers() -> AsyncIterator[Mapping[str, str]]:
    """Keep a port that nobody listens on, and one where calls are taken and never answered.

    Both listen or not by the kernel alone, so that they behave whatever this process does.
    """
    with socket.socket() as unused, socket.socket() as silent:
        for one in (unused, silent):
            one.bind(("127.0.0.1", 0))  # bound, so that nobody else comes to listen there
        silent.listen()
        yield {
            name: f"redis://127.0.0.1:{one.getsockname()[1]}/0"
            for name, one in (("unused-port", unused), ("silent-port", silent))
        }
