"""The commands of an auditor: `audit keygen`, `export`, `verify`, `check` and `letters`.

`verify` needs no settings, no services and no private key. `export` and `check` read Postgres itself, as whoever has an
account there that may read five tables.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ..output import print_json, progress
from . import audit_letters

# Everything slow is imported where it is used: `--help` and a wrong option answer at once.
# ruff: noqa: PLC0415

if TYPE_CHECKING:
    from ..models.bundles import Verdict
    from ..settings import Settings
    from ..store.audit import AuditReader

_FAULTY = 1
_UNREADABLE = 2

audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
commands = typer.Typer()
audit.add_typer(audit_letters.commands, name="letters", help="See to records that the audit service refused.")
commands.add_typer(audit, name="audit", help="Prove that nobody changed what the audit trail says.")


@audit.command()
def keygen(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes to FILE.pub.")],
) -> None:
    """Make a pair of keys: one signs, the other tells whether it did.

    \b
    Example:
      assessmentstore audit keygen audit.key
      export ASSESSMENTSTORE_AUDIT_SIGNING_KEY=$PWD/audit.key
    """
    from ..store.signing import SigningKey

    key = SigningKey.generate()
    try:
        key.write(file)
    except OSError as error:
        _fail(f"The key cannot be written to {file}: {error.strerror}")
    typer.echo(f"key id      {key.id}\npublic key  {key.public}")
    typer.echo(f"private key {file}: keep it from whoever may write Postgres")


@audit.command()
def export(
    assessment_id: Annotated[str | None, typer.Argument(help="Of the assessment.", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file; else standard output.")] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="All checkpoints in place of a trail.")] = False,
    partition: Annotated[int | None, typer.Option(min=0, help="Checkpoints of one partition alone.")] = None,
) -> None:
    """Write an assessment's audit trail with all that it takes to check it elsewhere.

    It is read from Postgres. Where the signing key is set, it is sealed with that, so that no row, and no checkpoint,
    can be cut off its end.

    \b
    Example:
      assessmentstore audit export a1 -o a1.audit.json
      assessmentstore audit export --checkpoints -o checkpoints.json
    """
    if checkpoints == (assessment_id is not None):
        raise typer.BadParameter("give an assessment's id, or --checkpoints", param_hint="ID")
    from ..models.canonical import canonical
    from ..settings import Settings
    from ..store.signing import signing_key

    settings = Settings.load()

    async def read() -> bytes:
        async with _reader(settings) as reader:
            if assessment_id is None:
                return canonical(await reader.checkpoints(partition, signing_key(settings)))
            return canonical(await reader.bundle(assessment_id, signing_key(settings)))

    exported = asyncio.run(read())
    if output is None:
        sys.stdout.buffer.write(exported + b"\n")
    else:
        output.write_bytes(exported + b"\n")


@audit.command()
def verify(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.")],
    public_key: Annotated[
        list[str], typer.Option("--public-key", help="Base64, PEM or a file; may repeat.", show_default=False)
    ],
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="Take what has no seal: rows, or checkpoints, may be missing at its end.")
    ] = False,
) -> None:
    """Check a bundle, or a list of checkpoints, with the public key alone.

    The exit code is 0 where all is as it was, 1 where something was changed, 2 where the file or a key cannot be read.

    \b
    Example:
      assessmentstore audit verify a1.audit.json --public-key audit.key.pub
    """
    from ..models.bundles import BUNDLE, NotABundleError, read_bundle, verify_bundle, verify_checkpoints
    from ..store.signing import KeyFormatError, PublicKeys

    try:
        keys = PublicKeys.parse(public_key)
        bundle = read_bundle(file.read_bytes())
    except KeyFormatError as error:
        _fail(f"The public key cannot be read: {error}")
    except (NotABundleError, OSError) as error:
        _fail(f"{file} cannot be checked: {error}")
    if bundle["kind"] == BUNDLE:
        _tell(verify_bundle(bundle, keys.verify, unsealed=unsealed), "rows")
    else:
        _tell(verify_checkpoints(bundle, keys.verify, unsealed=unsealed), "checkpoints")


@audit.command()
def check(
    topic: Annotated[
        bool, typer.Option("--topic", help="Compare the checkpoints with those that were published to Kafka, too.")
    ] = False,
) -> None:
    """Walk every chain and every checkpoint that is stored, and tell all that does not fit.

    It is read from Postgres as it is at one moment, and changes nothing. The exit code is 0 where all is as it was, and
    1 where something was changed. With --topic, checkpoints that were taken out of Postgres are found, too.

    \b
    Example:
      ASSESSMENTSTORE_AUDIT_PUBLIC_KEYS=audit.key.pub assessmentstore audit check --topic
    """
    from ..settings import Settings
    from ..store.audit import MOST_FAULTS
    from ..store.encryption import KeyRing
    from ..store.signing import trusted_keys

    settings = Settings.load()
    keys, ring = trusted_keys(settings), KeyRing.of(settings)

    async def walk() -> int:
        told = 0
        with progress("checking the audit trail") as report:
            async with _reader(settings) as reader, aclosing(reader.check(keys.verify, report, ring)) as faults:
                async for fault in faults:
                    typer.echo(fault)
                    told += 1
                    if told == MOST_FAULTS:
                        typer.echo(f"... and maybe more: {MOST_FAULTS} are told")
                        break
        return told + (await _compare_with_topic(settings) if topic else 0)

    if not keys.ids:
        typer.echo("no checkpoint can be believed: set ASSESSMENTSTORE_AUDIT_PUBLIC_KEYS", err=True)
    if asyncio.run(walk()):
        raise typer.Exit(_FAULTY)
    typer.echo("the audit trail is as it was written")


async def _compare_with_topic(settings: Settings) -> int:
    from ..recovery.checkpoints import unlike_published
    from ..store.postgres import open_read_pool

    async with open_read_pool(settings, settings.database_url, "audit") as pool:
        faults = await unlike_published(settings, pool)
    for fault in faults:
        typer.echo(fault)
    return len(faults)


@asynccontextmanager
async def _reader(settings: Settings) -> AsyncIterator[AuditReader]:
    from ..store.audit import AuditReader
    from ..store.postgres import open_read_pool

    async with open_read_pool(settings, settings.database_url, "audit") as pool:
        yield AuditReader(pool)


def _tell(verdict: Verdict, what: str) -> None:
    for line in verdict.faults:
        typer.echo(line, err=True)
    for line in verdict.remarks:
        typer.echo(f"note: {line}", err=True)
    counts = {what: verdict.rows, "covered": verdict.covered}
    print_json({"verified": not verdict.faults, **counts, "faults": verdict.faults, "remarks": verdict.remarks})
    if verdict.faults:
        raise typer.Exit(_FAULTY)


def _fail(message: str) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(_UNREADABLE)
