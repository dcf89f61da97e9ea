"""The composition root: settings become running parts."""

from __future__ import annotations

import faust
from aiohttp import web

from .agents.app import CommandsApp, build_app
from .agents.topics import create_topics
from .settings import Settings
from .store.migrate import migrate as migrate_database
from .telemetry import watch_process


async def migrate(settings: Settings) -> list[str]:
    """Create or upgrade the Postgres schema and the topics, and say what was done.

    Raises:
        SettingsError: what is there does not fit the settings.
        UnavailableError: Postgres or Kafka is away.
    """
    migrations = await migrate_database(settings.database_url)
    topics = await create_topics(settings)
    return [f"applied migration {name}" for name in migrations] + [f"created topic {name}" for name in topics]


def run_worker(settings: Settings) -> int:
    """Run a worker until it is told to stop, and say how it ended: 0 in good order."""
    watch_process()
    app = build_app(settings, mount_web=_mount_worker_web)
    worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False, override_logging=False, quiet=True)
    try:
        worker.execute_from_commandline()
    except SystemExit as ending:
        return 0 if ending.code in (None, 0) else 1
    return 0


def _mount_worker_web(app: CommandsApp, worker_web: web.Application) -> None:
    """The routes of the worker's own port."""
