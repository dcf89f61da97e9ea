"""The command that runs the sample compliance server."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ..compliance.modes import Mode

# ruff: noqa: PLC0415 - everything slow is imported where it is used

commands = typer.Typer()


Targets = Annotated[
    list[str],
    typer.Option(
        "--target",
        metavar="NAME=URL",
        envvar="ASSESSMENTSTORE_COMPLIANCE_TARGETS",
        help="What may be looked at; may repeat. In the variable, the place for passwords: with spaces between.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(help="What everybody has to bring; else ASSESSMENTSTORE_COMPLIANCE_API_KEY.", show_default=False),
]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")]
Most = Annotated[int, typer.Option(min=1, max=10_000, help="Assessments at the same time; others get 429.")]


@commands.command("compliance-server")
def compliance_server(
    target: Targets,
    api_key: ApiKey = None,
    host: Host = "127.0.0.1",
    port: Port = 3001,
    most_at_once: Most = 32,
    mode: Annotated[Mode, typer.Option(help="Behave like this, for tests of who calls.")] = Mode.NORMAL,
    allow_modes: Annotated[
        bool, typer.Option("--allow-modes", help="Let a request choose with customOptions.complianceMode.")
    ] = False,
) -> None:
    """Run a sample compliance server.

    It really looks at its targets, and answers with issues, scores and recommendations. They are of kafka://host:port,
    postgresql://, redis://, rediss://, http://, https://, tls://host:port, and file:///folder for configuration files.
    Nothing else is ever looked at, whatever a request says.

    \b
    Example:
      export ASSESSMENTSTORE_COMPLIANCE_API_KEY=secret
      assessmentstore compliance-server --target cache=redis://localhost:6379/0 --target site=https://example.org/
    """
    from ..compliance.assess import Assessor
    from ..compliance.server import serve
    from ..compliance.targets import Catalogue
    from ..settings import Settings, SettingsError
    from ..telemetry import configure_logging

    settings = Settings.load()
    key = api_key or (settings.compliance_api_key and settings.compliance_api_key.get_secret_value())
    if not key:
        raise SettingsError(
            "ASSESSMENTSTORE_COMPLIANCE_API_KEY is not set: make one up, and give it to the workers too"
        )
    try:
        catalogue = Catalogue.of(target)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--target") from error
    configure_logging(settings)
    assessor = Assessor(catalogue=catalogue, mode=mode, allow_modes=allow_modes)
    asyncio.run(serve(assessor, key, host=host, port=port, most_at_once=most_at_once))
