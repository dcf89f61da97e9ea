"""The command line: parse, call, format."""

from __future__ import annotations

import asyncio
import shlex
import sys
from datetime import timedelta
from errno import ENOSPC
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .commands import PARTS, chaos, dead_letters
from .interrupts import end_as_by_ctrl_c
from .output import BrokenOffError

# Everything slow is imported where it is used: `--help` and a wrong option answer at once.
# ruff: noqa: PLC0415

_FAILURE = 1
_USAGE = 2
_TIMED_OUT = 3
_BROKEN_OFF = 130


class _OneLineErrors(TyperGroup):
    """The group of all commands: what goes wrong for a known reason is told on standard error, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except (KeyboardInterrupt, BrokenOffError) as error:
            raise _broken_off(error) from error
        except Exception as error:
            code = _exit_code(error)
            if code is None:
                raise
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(code) from error


def _broken_off(interruption: BaseException) -> typer.Exit:
    typer.echo(str(interruption) or "Broken off", err=True)
    return typer.Exit(_BROKEN_OFF)


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error whose message says all; nothing for any other."""
    from .settings import SettingsError

    if isinstance(error, SettingsError):
        return _USAGE
    # A file or folder that an option names, and that is not there or must not be written to; or a full disk.
    if isinstance(error, OSError) and (error.filename is not None or error.errno == ENOSPC):
        return _FAILURE
    from .models.errors import AssessmentStoreError, ErrorCode
    from .services import ServicesError

    if isinstance(error, AssessmentStoreError | ServicesError):
        return _TIMED_OUT if getattr(error, "code", None) == ErrorCode.TIMEOUT else _FAILURE
    return None


app = typer.Typer(
    cls=_OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
services = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"assessmentstore {version('assessmentstore')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Keep the state of every assessment, applied exactly once.

    \b
    Settings are environment variables, or lines in a file .env:
      ASSESSMENTSTORE_DATABASE_URL, ASSESSMENTSTORE_KAFKA_BOOTSTRAP, ...

    \b
    Everything on this machine, with sample traffic:
      assessmentstore dev
    """


@app.command()
def dev() -> None:
    """Run everything on this machine, with sample traffic.

    That is Kafka, Postgres and Redis (those of the settings, else Docker, else local processes), the schema and the
    topics, a worker, the API, a compliance server that looks at these very services, and customers who have that done.
    Meanwhile the client commands work in the same folder without a token. Ctrl-C stops all that it started.

    \b
    Example:
      ASSESSMENTSTORE_HTTP_PORT=3100 assessmentstore dev
    """
    from .dev.runner import run
    from .settings import Settings

    raise typer.Exit(run(Settings.load()))


@services.command()
def up() -> None:
    """Start what does not run yet, and say where all are.

    Each is taken from the settings, else from Docker, else started as a local process. Twice does no harm.

    \b
    Example:
      assessmentstore services up && eval "$(assessmentstore services env)"
    """
    from .output import progress
    from .services import up as start
    from .settings import Settings, without_password

    with progress("starting services") as report:
        present = asyncio.run(start(Settings.load(), report=report))
    for service in present.services:
        typer.echo(f"{service.name:<8}  {service.how:<11}  {without_password(service.url)}  ({service.detail})")


@services.command()
def down() -> None:
    """Stop what `up` started, and keep the data.

    What runs elsewhere, or was started with another ASSESSMENTSTORE_DATA_DIR, is left alone.

    \b
    Example:
      assessmentstore services down
    """
    from .output import progress
    from .services import down as stop
    from .settings import Settings

    with progress("stopping services") as report:
        stopped = asyncio.run(stop(Settings.load(), report=report))
    typer.echo("\n".join(f"{name}: stopped" for name in stopped) or "nothing to stop")


@services.command()
def env() -> None:
    """Print the addresses as lines for a shell.

    \b
    Example:
      eval "$(assessmentstore services env)"
    """
    from .services import ServicesError, found
    from .settings import Settings

    present = found(Settings.load())
    if present is None:
        raise ServicesError("No service runs here: start them with `assessmentstore services up`")
    for name, value in present.environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def migrate() -> None:
    """Create or upgrade the schema and the topics.

    Safe to run twice, and from several machines at once.

    \b
    Example:
      assessmentstore migrate
    """
    from . import bootstrap
    from .output import progress
    from .settings import Settings

    with progress("schema and topics"):
        done = asyncio.run(bootstrap.migrate(Settings.load()))
    typer.echo("\n".join(done) or "nothing to do: schema and topics are there")


@app.command()
def worker() -> None:
    """Run a worker: it applies commands, publishes events.

    Start as many as there are cores; each takes a share of the partitions.

    \b
    Example:
      ASSESSMENTSTORE_WORKER_PORT=6067 assessmentstore worker
    """
    from . import bootstrap
    from .settings import Settings
    from .telemetry import configure_logging

    settings = Settings.load()
    configure_logging(settings)
    raise typer.Exit(bootstrap.run_worker(settings))


@app.command()
def web() -> None:
    """Run the HTTP API.

    \b
    Example:
      ASSESSMENTSTORE_JWT_SECRET=... assessmentstore web
    """
    from . import bootstrap
    from .settings import Settings
    from .telemetry import configure_logging

    settings = Settings.load()
    configure_logging(settings)
    raise typer.Exit(bootstrap.run_web(settings))


@app.command()
def token(
    user: Annotated[str | None, typer.Option(help="Whom it speaks for; else you.", show_default=False)] = None,
    role: Annotated[list[str] | None, typer.Option(help="USER, ADMIN or HUMAN_OVERSIGHT; may repeat.")] = None,
    permission: Annotated[
        list[str] | None, typer.Option(help="A permission in place of those of the roles; may repeat.")
    ] = None,
    expires: Annotated[int, typer.Option(min=1, help="Seconds that it is good for.")] = 3600,
) -> None:
    """Print a token for development.

    It is signed with the configured secret, or with that of a `dev` that runs in this folder.

    \b
    Example:
      assessmentstore token --user alice --role USER
    """
    from .dev.access import client_settings, local_user, signing_secret
    from .web.auth import Permission, Role, mint_token

    unknown = set(role or ()) - set(Role)
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is not one of {', '.join(Role)}", param_hint="--role")
    strange = set(permission or ()) - set(Permission)
    if strange:
        words = f"{', '.join(strange)} is not one of {', '.join(Permission)}"
        raise typer.BadParameter(words, param_hint="--permission")
    roles = [Role(name) for name in role or [Role.USER]]
    settings = client_settings()
    minted = mint_token(
        signing_secret(settings),
        user or local_user(),
        roles,
        timedelta(seconds=expires),
        permissions=permission or (),
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    typer.echo(minted)


app.add_typer(services, name="services", help="Start, stop and find Kafka, Postgres and Redis.")
app.add_typer(
    dead_letters.commands, name="dead-letters", help="Look at records that were no commands, and see to them."
)
app.add_typer(chaos.commands, name="chaos", help="Bring chaos about, and judge what it did.")
for part in PARTS:
    app.add_typer(part)


def main() -> None:
    """Run the command line."""
    end_as_by_ctrl_c()
    try:
        app(prog_name="assessmentstore")
    except KeyboardInterrupt as early:  # before any command has begun
        sys.exit(_broken_off(early).exit_code)
