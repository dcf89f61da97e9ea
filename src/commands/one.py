"""The commands about one assessment: `create`, `get`, `history`, `wait`, `watch`, `cancel`, `retry`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..output import for_people, print_answer, print_change, print_rows
from .session import FAILED, LONG_PATIENCE, Id, Json, Token, Url, call, wire

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..client import AsyncClient, Outcome
    from ..models.base import JsonObject

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()


@commands.command()
def create(  # noqa: PLR0913, PLR0917 - the options of a command line, each by its name
    kind: Annotated[str | None, typer.Option("--type", help="compliance, health or security.")] = None,
    server: Annotated[str | None, typer.Option(help="The server to look at.")] = None,
    source: Annotated[str | None, typer.Option(help="Who asks: installer or compliance.")] = None,
    priority: Annotated[int | None, typer.Option(help="1 to 10, the higher the sooner.")] = None,
    max_retries: Annotated[
        int | None, typer.Option(min=0, help="How often it is tried again by itself once it failed.")
    ] = None,
    retry_delay: Annotated[
        float | None, typer.Option(help="Seconds from the first failure to the retry; later ones take longer.")
    ] = None,
    assessment_id: Annotated[str | None, typer.Option("--id", help="Its id; else the server makes one up.")] = None,
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option; may repeat.")] = None,
    data: Annotated[
        typer.FileBinaryRead | None, typer.Option(metavar="FILE", help="The request as JSON; - is standard input.")
    ] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Create an assessment.

    Its id and version are printed once it is applied. What the options say goes before what the file says.

    \b
    Example:
      assessmentstore create --type compliance --server web-1 --option deepScan=true
    """
    named = {
        "assessmentType": kind,
        "serverName": server,
        "source": source,
        "priority": priority,
        "assessmentId": assessment_id,
        "retryPolicy": _retry_policy(max_retries, retry_delay),
    }
    request = _request(data.read() if data else b"{}", named, option or [])
    print_answer(wire(call(url, token, lambda client: client.create(request))), json)


@commands.command()
def get(
    assessment_id: Id,
    at_version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it was then, like 2026-01-31T12:00:00Z.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print the state of an assessment, now or in the past.

    \b
    Example:
      assessmentstore get 7f1c0b6e --at-version 2
    """
    record = call(url, token, lambda client: client.get(assessment_id, at_version=at_version, at=at))
    print_answer(wire(record), json)


@commands.command()
def diff(
    assessment_id: Id,
    from_version: Annotated[int, typer.Argument(metavar="FROM", min=1, help="A version.", show_default=False)],
    to_version: Annotated[
        int | None, typer.Argument(metavar="[TO]", min=1, help="Another one; else the present one.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print what changed from one version to another one.

    \b
    Example:
      assessmentstore diff 7f1c0b6e 2 5
    """
    found = call(url, token, lambda client: client.diff(assessment_id, from_version, to_version))

    def table() -> RenderableType:
        from .views import diff_table

        return diff_table(found)

    print_rows(map(wire, found.changes), table, json)


@commands.command()
def history(
    assessment_id: Id,
    after_version: Annotated[int, typer.Option(min=0, help="Leave out what led to this version or before.")] = 0,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Print who did what to an assessment, oldest first.

    \b
    Example:
      assessmentstore history 7f1c0b6e
    """
    entries = call(url, token, lambda client: client.history(assessment_id, after_version=after_version))

    def table() -> RenderableType:
        from .views import history_table

        return history_table(entries)

    print_rows(map(wire, entries), table, json)


@commands.command()
def wait(
    assessment_id: Id,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = 300,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Wait for the end of an assessment, and print it.

    The end is that it is completed, failed or cancelled. The wait outlives a restart of the server.
    Exit code: 0 completed, 1 failed, cancelled or an error, 3 time is up.

    \b
    Example:
      assessmentstore wait 7f1c0b6e --timeout 60 && echo completed
    """
    waiting = _wait_with_bar if for_people(sys.stderr) else _wait
    outcome = call(url, token, lambda client: waiting(client, assessment_id, timeout), patience=timeout)
    print_answer(wire(outcome), json)
    _exit_for(outcome.status)


@commands.command()
def watch(assessment_id: Id, url: Url = None, token: Token = None, json: Json = False) -> None:
    """Print a line for each change of an assessment.

    It ends when the assessment is completed, failed or cancelled, and sits out a restart of the server.
    Exit code: 0 completed, 1 failed, cancelled or an error.

    \b
    Example:
      assessmentstore watch 7f1c0b6e
    """

    async def follow(client: AsyncClient) -> str:
        state = ""
        async for record in client.changes(assessment_id):
            print_change(wire(record), json)
            state = record.state
        return state

    _exit_for(call(url, token, follow, patience=LONG_PATIENCE))


@commands.command()
def cancel(
    assessment_id: Id,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the assessment.")] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Cancel a pending or processing assessment.

    \b
    Example:
      assessmentstore cancel 7f1c0b6e --reason "the server is being replaced"
    """
    print_answer(wire(call(url, token, lambda client: client.cancel(assessment_id, reason))), json)


@commands.command()
def retry(
    assessment_id: Id,
    attempt: Annotated[
        int | None, typer.Option(min=0, help="Only where it was retried so often before.", show_default=False)
    ] = None,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Put a failed assessment back to pending.

    \b
    Example:
      assessmentstore retry 7f1c0b6e
    """
    print_answer(wire(call(url, token, lambda client: client.retry(assessment_id, attempt=attempt))), json)


def _retry_policy(max_retries: int | None, delay: float | None) -> JsonObject | None:
    if max_retries is None:
        if delay is not None:
            raise typer.BadParameter("say --max-retries, too", param_hint="--retry-delay")
        return None
    return {"maxRetries": max_retries} | ({} if delay is None else {"initialDelaySeconds": delay})


def _request(data: bytes, named: Mapping[str, object], options: Sequence[str]) -> JsonObject:
    """The request of a file, with what the command line says put over it."""
    request = _parse(data, otherwise=None)
    if not isinstance(request, dict) or not isinstance(request.setdefault("options", {}), dict):
        raise typer.BadParameter(
            "expected the request as a JSON object, with an object as options", param_hint="--data"
        )
    request |= {name: value for name, value in named.items() if value is not None}
    request["options"] |= dict(map(_option, options))
    return request


def _option(text: str) -> tuple[str, Any]:
    """`key=value` with a value of JSON, or any other text."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"expected KEY=VALUE, not {text!r}", param_hint="--option")
    return key, _parse(value.encode(), otherwise=value)


def _parse(text: bytes, *, otherwise: Any) -> Any:
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return otherwise


async def _wait(client: AsyncClient, assessment_id: str, within: float) -> Outcome:
    return await client.wait(assessment_id, within=within)


async def _wait_with_bar(client: AsyncClient, assessment_id: str, within: float) -> Outcome:
    """Wait, and show the progress meanwhile."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    end = time.monotonic() + within
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, suppress(TimeoutError):
        bar = progress.add_task(assessment_id, total=100)
        async with asyncio.timeout(within):
            async for record in client.changes(assessment_id):
                progress.update(bar, completed=record.progress, description=record.message or record.state)
    return await client.wait(assessment_id, within=max(0.0, end - time.monotonic()))


def _exit_for(state: str) -> None:
    if state != "completed":
        raise typer.Exit(FAILED)
