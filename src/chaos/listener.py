"""An HTTP server in this process that comes and goes, always at the same port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiohttp import web

from .plan import Fault

# Whoever is answered when it goes is cut off: a server that is killed takes no leave.
_LEAVE_SECONDS = 0.1


class Listener:
    """A place on this machine where some routes are served, for as long as it listens."""

    def __init__(self, port: int, routes: Iterable[web.RouteDef]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._routes = list(routes)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, shutdown_timeout=_LEAVE_SECONDS, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()

    async def stop(self) -> None:
        """Be gone, in the middle of whatever is under way."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()


class FaultyListener(Listener):
    """One that a fault makes be gone, or say nothing, for a while."""

    def __init__(self, port: int, routes: Iterable[web.RouteDef]) -> None:
        super().__init__(port, routes)
        self._answering = asyncio.Event()
        """Routes wait for it before they answer."""
        self._answering.set()

    async def happen(self, fault: Fault) -> None:
        """Be gone for a while, or say nothing for a while."""
        if fault.kind == "kill":
            await self.stop()
            await asyncio.sleep(fault.seconds)
            await self.start()
            return
        self._answering.clear()
        try:
            await asyncio.sleep(fault.seconds)
        finally:
            self._answering.set()
