"""Run the server until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal

from aiohttp import web

from ..models.errors import AssessmentStoreError
from .app import build_app
from .assess import Assessor

logger = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 2.0


class CannotListenError(AssessmentStoreError):
    """The address is taken, or not one of this machine."""


async def serve(assessor: Assessor, api_key: str, *, host: str, port: int, most_at_once: int) -> None:
    """Answer until SIGTERM or SIGINT.

    Raises:
        CannotListenError: nobody can listen there.
    """
    app = build_app(assessor, api_key, most_at_once=most_at_once)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await runner.setup()
        await _listen(runner, host, port)
        names = ", ".join(assessor.catalogue.targets)
        logger.info("Listening on %s:%s, to look at %s", host, port, names, extra={"action": "started"})
        await stop.wait()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        words = f"Cannot listen on {host}:{port} ({error.strerror}): stop whoever has it, or give another --port"
        raise CannotListenError(words) from error
