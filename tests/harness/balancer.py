"""Several processes behind one address: each connection goes to the next of them, as behind a load balancer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

_CHUNK = 65_536


@asynccontextmanager
async def balancing(ports: Sequence[int]) -> AsyncIterator[int]:
    """A port whose connections are shared out among these; one that nobody listens on is passed over."""
    turns = itertools.cycle(ports)
    pipes: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in itertools.islice(turns, len(ports)):
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                for pair in ((reader, far_writer), (far_reader, writer)):
                    pipes.add(task := asyncio.create_task(_pass(*pair)))
                    task.add_done_callback(pipes.discard)
                return
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in pipes:
            task.cancel()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on; the end of one side is the end of the other."""
    try:
        with suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
