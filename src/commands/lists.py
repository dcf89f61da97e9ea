"""The commands about many assessments: `list`, `search`, `stats`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..output import for_people, print_json, print_rows
from .live import watch
from .session import LONG_PATIENCE, Json, Token, Url, call, wire

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..client import Assessments, AsyncClient, FoundAssessments

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()

State = Annotated[list[str] | None, typer.Option(help="Of this state; may repeat.")]
Type = Annotated[list[str] | None, typer.Option("--type", help="Of this type; may repeat.")]
Source = Annotated[str | None, typer.Option(help="Asked for by installer or compliance.")]
Server = Annotated[str | None, typer.Option("--server", help="Of servers with this name; * and ? stand for others.")]
CreatedAfter = Annotated[str | None, typer.Option(metavar="TIME", help="Created then or later.")]
CreatedBefore = Annotated[str | None, typer.Option(metavar="TIME", help="Created before.")]
CompletedAfter = Annotated[str | None, typer.Option(metavar="TIME", help="Ended then or later.")]
CompletedBefore = Annotated[str | None, typer.Option(metavar="TIME", help="Ended before.")]
MinPriority = Annotated[int | None, typer.Option(help="Of this priority or a higher one.")]
MaxPriority = Annotated[int | None, typer.Option(help="Of this priority or a lower one.")]
MinProgress = Annotated[int | None, typer.Option(help="So far, in percent, or further.")]
MaxProgress = Annotated[int | None, typer.Option(help="So far, in percent, or less.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="The most on a page.")]
Cursor = Annotated[str | None, typer.Option(help="Where an earlier page said that the next one begins.")]
All = Annotated[bool, typer.Option("--all", help="Page after page, to the end.")]


@commands.command(name="list")
def list_(  # noqa: PLR0913, PLR0917 - the options of a command line, each by its name
    state: State = None,
    kind: Type = None,
    source: Source = None,
    server_name: Server = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    completed_after: CompletedAfter = None,
    completed_before: CompletedBefore = None,
    min_priority: MinPriority = None,
    max_priority: MaxPriority = None,
    min_progress: MinProgress = None,
    max_progress: MaxProgress = None,
    sort_by: Annotated[str | None, typer.Option(help="createdAt, updatedAt, priority or progress.")] = None,
    sort_order: Annotated[str | None, typer.Option(help="asc or desc.")] = None,
    limit: Limit = 100,
    offset: Annotated[int | None, typer.Option(min=0, help="Pass over so many.")] = None,
    cursor: Cursor = None,
    everything: All = False,
    following: Annotated[bool, typer.Option("--watch", help="Go on showing what changes, until Ctrl-C.")] = False,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """List assessments, the newest first.

    Times are like 2026-01-31T12:00:00Z, or a date alone. With --watch a terminal shows the page as it is; elsewhere a
    line is printed for each assessment on it that is new or changed.

    \b
    Example:
      assessmentstore list --state failed --server 'web-*' --created-after 2026-01-31
    """
    options = _named(locals(), _FILTERS | {"sort_by", "sort_order", "limit", "offset", "cursor"}) | {"type": kind}
    if following:
        _watch(url, token, options, json)
    elif everything:
        _list_all(url, token, options, json)
    else:
        page = call(url, token, lambda client: client.list(**options))
        _print_page(page, json)


@commands.command()
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="Each has to be there, or one like it.")],
    limit: Limit = 100,
    cursor: Cursor = None,
    everything: All = False,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Search assessments for words, the best first.

    They are looked for in ids, server names, messages, errors and requests; parts of words are found too, and words
    with typing errors.

    \b
    Example:
      assessmentstore search certificate expired
    """
    wanted = " ".join(words)

    async def find(client: AsyncClient) -> FoundAssessments:
        if not everything:
            return await client.search(wanted, limit=limit, cursor=cursor)
        from ..client import FoundAssessments

        found = [record async for record in client.search_all(wanted, page_size=limit)]
        return FoundAssessments(assessments=tuple(found), total=len(found))

    _print_page(call(url, token, find), json)


@commands.command()
def stats(  # noqa: PLR0913, PLR0917 - as for list
    state: State = None,
    kind: Type = None,
    source: Source = None,
    server_name: Server = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    completed_after: CompletedAfter = None,
    completed_before: CompletedBefore = None,
    min_priority: MinPriority = None,
    max_priority: MaxPriority = None,
    min_progress: MinProgress = None,
    max_progress: MaxProgress = None,
    timezone: Annotated[str | None, typer.Option(help="Whose days are counted, like Europe/Berlin; else UTC.")] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Count assessments, and how they fare.

    \b
    Example:
      assessmentstore stats --type compliance --created-after 2026-01-01
    """
    options = _named(locals(), _FILTERS | {"timezone"}) | {"type": kind}
    answer = call(url, token, lambda client: client.statistics(**options))

    def table() -> RenderableType:
        from .views import statistics_tables

        return statistics_tables(answer)

    print_rows([wire(answer)], table, json)


_FILTERS = frozenset(
    {
        "state",
        "source",
        "server_name",
        "created_after",
        "created_before",
        "completed_after",
        "completed_before",
        "min_priority",
        "max_priority",
        "min_progress",
        "max_progress",
    }
)


def _named(values: Mapping[str, Any], names: frozenset[str] | set[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if values[name] is not None}


def _print_page(page: Assessments | FoundAssessments, as_json: bool) -> None:
    def table() -> RenderableType:
        from .views import page_table

        return page_table(page.assessments, page)

    print_rows(map(wire, page.assessments), table, as_json)


def _list_all(url: str | None, token: str | None, options: dict[str, Any], as_json: bool) -> None:
    size = options.pop("limit")
    if {"offset", "cursor"} & options.keys():
        raise typer.BadParameter("it begins with the first page: leave --offset and --cursor out", param_hint="--all")

    async def collect(client: AsyncClient) -> Assessments:
        from ..client import Assessments

        found = [record async for record in client.iterate(page_size=size, **options)]
        return Assessments(assessments=tuple(found), total=len(found))

    async def stream(client: AsyncClient) -> None:
        async for record in client.iterate(page_size=size, **options):
            print_json(wire(record))

    if as_json or not for_people(sys.stdout):
        # Line by line: there may be more than memory holds.
        call(url, token, stream, patience=LONG_PATIENCE)
    else:
        _print_page(call(url, token, collect, patience=LONG_PATIENCE), as_json)


def _watch(url: str | None, token: str | None, options: dict[str, Any], as_json: bool) -> None:
    seen: dict[str, int] = {}

    async def look(client: AsyncClient) -> Assessments:
        return await client.list(**options)

    def draw(page: Assessments) -> RenderableType:
        from .views import page_table

        return page_table(page.assessments, page)

    def tell(page: Assessments) -> None:
        for record in reversed(page.assessments):
            if seen.get(record.assessment_id) != record.version:
                print_json(wire(record))
        seen.update((record.assessment_id, record.version) for record in page.assessments)

    watch(url, token, look, draw, tell, as_json=as_json)
