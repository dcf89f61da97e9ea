"""The command line itself: help, errors on one line, exit codes, and what it prints for shells."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner, Result

from assessmentstore.cli import app
from assessmentstore.dev.access import client_settings, local_user, write_access
from assessmentstore.settings import Settings, without_password

SECRET = "a-secret-that-is-long-enough-for-hs256"
COMMANDS = (
    *("dev", "migrate", "worker", "web", "token", "compliance-server"),
    *("create", "get", "diff", "history", "wait", "watch", "cancel", "retry"),
    *("list", "search", "stats", "batch", "top", "events", "cleanup", "replay", "verify"),
)
SERVICES = ("up", "down", "env")
DEAD_LETTERS = ("list", "show", "redrive", "drop")
AUDIT = ("keygen", "export", "verify", "check", "letters list", "letters redrive", "letters drop")
CHAOS = ("run", "plan", "sabotages", "prove")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with an empty data directory, and nothing in the environment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".assessmentstore").mkdir()
    for name in os.environ:
        if name.startswith("ASSESSMENTSTORE_") or name in {"DATABASE_URL", "REDIS_URL", "JWT_SECRET"}:
            monkeypatch.delenv(name)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def claims(result: Result) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(result.stdout.strip(), SECRET, algorithms=["HS256"])
    return decoded


@pytest.mark.parametrize(
    "command",
    [
        *([name] for name in COMMANDS),
        *(["services", name] for name in SERVICES),
        *(["dead-letters", name] for name in DEAD_LETTERS),
        *(["audit", *name.split()] for name in AUDIT),
        *(["chaos", name] for name in CHAOS),
    ],
)
def test_the_help_of_every_command_says_what_it_does_and_has_an_example(command: list[str]) -> None:
    result = call(*command, "--help")

    assert result.exit_code == 0
    assert "Example:\n    " in result.stdout
    assert f"assessmentstore {' '.join(command)}" in result.stdout.partition("Example:")[2]


def test_the_list_of_commands_has_a_whole_sentence_for_each() -> None:
    result = call("--help")

    listed = [line.split(maxsplit=1) for line in result.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert sorted(name for name, _ in listed) == sorted(
        [*COMMANDS, "services", "dead-letters", "audit", "chaos", "encryption", "legacy"]
    )
    assert all(text.endswith(".") and not text.endswith("...") for _, text in listed)


def test_help_loads_nothing_slow() -> None:
    code = "import sys, assessmentstore.cli; print(*{'aiohttp', 'faust', 'asyncpg', 'aiokafka'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == []


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "assessmentstore", "--version"]

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.startswith("assessmentstore 0.")


@pytest.mark.parametrize("command", ["dev", "worker", "web", "migrate", "get a-1", "token", "services env"])
def test_a_wrong_setting_is_one_line_that_names_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSESSMENTSTORE_HTTP_PORT", "web")

    result = call(*command.split())

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ASSESSMENTSTORE_HTTP_PORT=web: ")
    assert result.stderr.count("\n") == 1


def test_an_error_that_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> Settings:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Settings, "load", fail)

    result = call("services", "env")

    assert isinstance(result.exception, RuntimeError)


def test_what_is_broken_off_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> Settings:
        raise KeyboardInterrupt

    monkeypatch.setattr(Settings, "load", interrupt)

    result = call("services", "env")

    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Broken off\n")


def test_services_env_is_fit_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    database = "postgresql://me:it's $ecret@db:5432/a?sslmode=require&application_name=x"
    monkeypatch.setenv("ASSESSMENTSTORE_DATABASE_URL", database)
    monkeypatch.setenv("ASSESSMENTSTORE_KAFKA_BOOTSTRAP", "a:9092,b:9092")

    result = call("services", "env")

    words = [shlex.split(line) for line in result.stdout.splitlines()]
    assert ["export", f"ASSESSMENTSTORE_DATABASE_URL={database}"] in words
    assert ["export", "ASSESSMENTSTORE_KAFKA_BOOTSTRAP=a:9092,b:9092"] in words


def test_services_env_without_services_says_how_to_start_them() -> None:
    result = call("services", "env")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: No service runs here: start them with `assessmentstore services up`\n"


def test_services_down_where_nothing_was_started_stops_nothing() -> None:
    assert call("services", "down").stdout == "nothing to stop\n"


def test_a_token_speaks_for_the_user_in_all_his_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)

    result = call("token", "--user", "alice", "--role", "USER", "--role", "ADMIN", "--expires", "60")

    token = claims(result)
    assert (token["sub"], sorted(token["roles"])) == ("alice", ["ADMIN", "USER"])
    assert token["exp"] - token["iat"] == 60


def test_a_token_may_list_permissions_and_names_the_issuer_that_the_settings_want(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ASSESSMENTSTORE_JWT_SECRET", SECRET)
    monkeypatch.setenv("ASSESSMENTSTORE_JWT_ISSUER", "us")
    monkeypatch.setenv("ASSESSMENTSTORE_JWT_AUDIENCE", "store")

    token = jwt.decode(
        call("token", "--permission", "view:assessment", "--permission", "maintain:store").output.strip(),
        SECRET,
        algorithms=["HS256"],
        audience="store",
        issuer="us",
    )

    assert token["permissions"] == ["view:assessment", "maintain:store"]
    assert "view:nothing is not one of" in call("token", "--permission", "view:nothing").output


def test_a_token_is_for_a_plain_user_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)

    token = claims(call("token"))

    assert (token["sub"], token["roles"], token["exp"] - token["iat"]) == (local_user(), ["USER"], 3600)


def test_a_role_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)

    result = call("token", "--role", "KING")

    assert result.exit_code == 2
    assert "KING is not one of USER, ADMIN, HUMAN_OVERSIGHT" in result.stderr


@pytest.mark.parametrize("command", ["token", "get a-1", "retry a-1"])
def test_without_a_secret_no_token_is_made_and_the_setting_is_named(command: str) -> None:
    result = call(*command.split())

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ASSESSMENTSTORE_JWT_SECRET is not set")
    assert result.stderr.count("\n") == 1


def test_clients_in_the_folder_of_a_dev_use_its_port_and_secret() -> None:
    file = write_access(Settings.load(http_port=3177), SECRET)

    result = call("token")

    assert claims(result)["sub"] == local_user()
    assert client_settings().http_port == 3177
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_setting_goes_before_what_a_dev_left(monkeypatch: pytest.MonkeyPatch) -> None:
    write_access(Settings.load(), "another-secret-that-is-long-enough-too")
    monkeypatch.setenv("ASSESSMENTSTORE_JWT_SECRET", SECRET)
    monkeypatch.setenv("ASSESSMENTSTORE_HTTP_PORT", "3999")

    assert claims(call("token"))["sub"] == local_user()
    assert client_settings().http_port == 3999


def test_a_secret_that_somebody_configured_is_not_written_down() -> None:
    file = write_access(Settings.load(jwt_secret=SECRET), None)

    assert SECRET not in file.read_text()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@db:5432/a", "postgresql://me:***@db:5432/a"),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql://me@db:5432/a", "postgresql://me@db:5432/a"),
        ("a:9092,b:9092", "a:9092,b:9092"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("folder", ["", "file"])
def test_a_folder_that_cannot_be_written_to_is_named_on_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("no folder")
    out = tmp_path / folder / "file" / "out"

    result = call("chaos", "run", "--out", str(out))

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert str(out) in result.stderr


def test_a_dead_letter_is_dropped_for_a_reason_alone() -> None:
    done = call("dead-letters", "drop", "3:17", "--because", " ")

    assert done.exit_code == 2
    assert "say why nothing is lost" in done.output
