"""The commands that are a client of the HTTP API: `create`, `get`, `wait`, `watch`, `cancel`, `retry`.

They print for people on a terminal, and JSON with `--json` or where the output goes elsewhere.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from .output import for_people, print_answer, print_change, progress

if TYPE_CHECKING:
    from .client import Client
    from .models.assessment import AssessmentRecord
    from .models.base import JsonObject

# Everything slow is imported where it is used: `--help` and a wrong option answer at once.
# ruff: noqa: PLC0415

_FAILED = 1
# A client that follows something for long sits out a restart of the server.
_LONG_PATIENCE = 120.0
# A cleanup of millions is cut into requests of some seconds each.
_CLEANUP_PATIENCE = 3600.0

commands = typer.Typer()

T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ASSESSMENTSTORE_URL",
        help="Where the API is; else port ASSESSMENTSTORE_HTTP_PORT of this machine.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="ASSESSMENTSTORE_TOKEN",
        help="A JWT; else one for the local user, made with the configured secret.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on a terminal, too.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The assessment.", show_default=False)]


@commands.command()
def create(  # noqa: PLR0913, PLR0917 - the options of a command line, each by its name
    kind: Annotated[str | None, typer.Option("--type", help="compliance, health or security.")] = None,
    server: Annotated[str | None, typer.Option(help="The server to look at.")] = None,
    source: Annotated[str | None, typer.Option(help="Who asks: installer or compliance.")] = None,
    priority: Annotated[int | None, typer.Option(help="1 to 10, the higher the sooner.")] = None,
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
    }
    request = _request(data.read() if data else b"{}", named, option or [])
    print_answer(_call(url, token, lambda client: client.create(request)), json)


@commands.command()
def get(assessment_id: Id, url: Url = None, token: Token = None, json: Json = False) -> None:
    """Print the state of an assessment.

    \b
    Example:
      assessmentstore get 7f1c0b6e --json
    """
    record = _call(url, token, lambda client: client.get(assessment_id))
    print_answer(_wire(record), json)


@commands.command()
def wait(
    assessment_id: Id,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = 300,
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Wait for the end of an assessment, and print the outcome.

    The end is that it is completed, failed or cancelled. The wait outlives a restart of the server.
    Exit code: 0 completed, 1 failed, cancelled or an error, 3 time is up.

    \b
    Example:
      assessmentstore wait 7f1c0b6e --timeout 60 && echo completed
    """
    waiting = _wait_with_bar if for_people(sys.stderr) else _wait
    outcome = _call(url, token, lambda client: waiting(client, assessment_id, timeout), patience=timeout)
    print_answer(outcome, json)
    _exit_for(outcome["status"])


@commands.command()
def watch(assessment_id: Id, url: Url = None, token: Token = None, json: Json = False) -> None:
    """Print a line for each change of an assessment.

    It ends when the assessment is completed, failed or cancelled, and sits out a restart of the server.
    Exit code: 0 completed, 1 failed, cancelled or an error.

    \b
    Example:
      assessmentstore watch 7f1c0b6e
    """

    async def follow(client: Client) -> str:
        state = ""
        async for record in client.changes(assessment_id):
            print_change(_wire(record), json)
            state = record.state
        return state

    _exit_for(_call(url, token, follow, patience=_LONG_PATIENCE))


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
    data = {} if reason is None else {"reason": reason}
    print_answer(_wire(_call(url, token, lambda client: client.command(assessment_id, "cancel", data))), json)


@commands.command()
def retry(assessment_id: Id, url: Url = None, token: Token = None, json: Json = False) -> None:
    """Put a failed assessment back to pending.

    \b
    Example:
      assessmentstore retry 7f1c0b6e
    """
    print_answer(_wire(_call(url, token, lambda client: client.command(assessment_id, "retry", {}))), json)


@commands.command()
def cleanup(
    retention_days: Annotated[
        int, typer.Option("--retention-days", min=0, help="Keep what ended within so many days.", show_default=False)
    ],
    url: Url = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Delete assessments that ended long ago.

    Those that are completed, failed or cancelled go, with their history and metrics; how many is printed.
    The token needs the permission maintain:store, which the role ADMIN has.

    \b
    Example:
      assessmentstore cleanup --retention-days 90
    """
    with progress("deleting"):
        answer = _call(url, token, lambda client: client.cleanup(retention_days), patience=_CLEANUP_PATIENCE)
    print_answer(answer, json)


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


def _call(
    url: str | None, token: str | None, use: Callable[[Client], Coroutine[Any, Any, T]], *, patience: float = 10.0
) -> T:
    """Open a session with the API, and return what is done with it."""
    from .client import Client
    from .dev.access import client_settings, local_token, local_url

    settings = client_settings()
    client = Client(url or local_url(settings.http_port), token or local_token(settings), patience=patience)

    async def session() -> T:
        async with client:
            return await use(client)

    return asyncio.run(session())


async def _wait(client: Client, assessment_id: str, within: float) -> JsonObject:
    return await client.wait(assessment_id, within=within)


async def _wait_with_bar(client: Client, assessment_id: str, within: float) -> JsonObject:
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


def _wire(record: AssessmentRecord | None) -> JsonObject:
    return {} if record is None else record.model_dump(mode="json", by_alias=True)


def _exit_for(state: str) -> None:
    if state != "completed":
        raise typer.Exit(_FAILED)
