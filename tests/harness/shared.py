"""One installation, with its API and a worker, for all the tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assessmentstore.settings import Settings

from .installation import Installation, create_installation, database_name, drop_database
from .web import Web
from .worker import Cluster


@dataclass(frozen=True)
class Running:
    """What runs."""

    installation: Installation
    cluster: Cluster
    web: Web


@contextmanager
def running(services: Settings, template: str, folder: Path, **settings: Any) -> Iterator[Running]:
    """Start it, and end it; some settings may differ from the defaults of a test."""
    installation = asyncio.run(create_installation(services, template, folder, **settings))
    cluster, web = Cluster(installation), Web(installation)
    try:
        cluster.start()
        asyncio.run(web.until_ready())
        asyncio.run(_owned(cluster))
        yield Running(installation, cluster, web)
    finally:
        web.destroy()
        cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


@contextmanager
def working_installation(services: Settings, template: str, folder: Path, **settings: Any) -> Iterator[Installation]:
    """An installation with a worker and no API."""
    installation = asyncio.run(create_installation(services, template, folder, **settings))
    cluster = Cluster(installation)
    try:
        cluster.start()
        asyncio.run(_owned(cluster))
        yield installation
    finally:
        cluster.destroy()
        asyncio.run(drop_database(services, database_name(installation.settings)))


async def _owned(cluster: Cluster) -> None:
    await cluster.until_owned_by(*cluster.workers)
