"""What goes on until Ctrl-C: a view that is drawn again and again; and the commands `top` and `events`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..output import for_people, print_event, print_json
from .session import LONG_PATIENCE, Json, Token, Url, call, wire

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..client import AsyncClient
    from .views import Overview

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()

REDRAW_SECONDS = 2.0

_NEWEST = 10
_SLOWEST = 5

T = TypeVar("T")


@commands.command()
def top(url: Url = None, token: Token = None, json: Json = False) -> None:
    """Show counts, throughput, what changed and what is slow.

    Until Ctrl-C on a terminal; elsewhere, and with --json, once. The counts are of what the token may see, the
    throughput is of the whole store.

    \b
    Example:
      assessmentstore top
    """
    if json or not for_people(sys.stdout):
        return print_json(call(url, token, _overview).to_wire())

    def draw(overview: Overview) -> RenderableType:
        from .views import overview_view

        return overview_view(overview, datetime.now(UTC))

    return watch(url, token, _overview, draw, lambda _: None, as_json=False)


@commands.command()
def events(
    assessment_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The assessment; else all that the token may see.")
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Of this type, like assessment.failed; may repeat.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="The position after which to go on; else from now on.")] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print a line for each event as it happens.

    Of one assessment all are printed, from its creation to its end; of all assessments those from now on, until
    Ctrl-C. It sits out a restart of the server, and passes no event over.

    \b
    Example:
      assessmentstore events --type assessment.failed --type assessment.cancelled
    """

    async def follow(client: AsyncClient) -> None:
        from ..client import Reset

        async with client.events(assessment_id, types=types or (), last_event_id=after) as stream:
            async for item in stream:
                if isinstance(item, Reset):
                    words = f"Events were lost ({item.reason}): it goes on from {item.position}"
                    typer.echo(words, err=True)
                else:
                    print_event(wire(item), json)

    with suppress(KeyboardInterrupt):
        call(url, token, follow, patience=LONG_PATIENCE)


def watch(
    url: str | None,
    token: str | None,
    look: Callable[[AsyncClient], Coroutine[Any, Any, T]],
    draw: Callable[[T], RenderableType],
    tell: Callable[[T], None],
    *,
    as_json: bool,
) -> None:
    """Look again and again until Ctrl-C: draw what is seen on a terminal, tell it elsewhere."""

    async def redraw(client: AsyncClient) -> None:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(), auto_refresh=False, screen=for_people(sys.stdout)) as live:
            while True:
                live.update(draw(await look(client)), refresh=True)
                await asyncio.sleep(REDRAW_SECONDS)

    async def retell(client: AsyncClient) -> None:
        while True:
            tell(await look(client))
            await asyncio.sleep(REDRAW_SECONDS)

    show = retell if as_json or not for_people(sys.stdout) else redraw
    with suppress(KeyboardInterrupt):
        call(url, token, show, patience=LONG_PATIENCE)


async def _overview(client: AsyncClient) -> Overview:
    from .views import Overview

    statistics, metrics, newest, slowest = await asyncio.gather(
        client.statistics(),
        client.metrics(),
        client.list(sort_by="updatedAt", limit=_NEWEST),
        client.list(state=("pending", "processing"), sort_by="createdAt", sort_order="asc", limit=_SLOWEST),
    )
    return Overview(statistics, metrics, newest.assessments, slowest.assessments)
