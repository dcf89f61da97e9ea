"""The commands that tidy up: `cleanup`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..output import print_answer, progress
from .session import LONG_PATIENCE, Json, Token, Url, call, wire

commands = typer.Typer()


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
        answer = call(url, token, lambda client: client.cleanup(retention_days), patience=LONG_PATIENCE)
    print_answer(wire(answer), json)
