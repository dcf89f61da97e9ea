"""How clients on this machine get in: a token for the local user, and the file in which `dev` leaves its secret."""

from __future__ import annotations

import getpass
import os
from datetime import timedelta
from pathlib import Path

from ..settings import ENV_PREFIX, Settings, SettingsError
from ..store.signing import SigningKey
from ..web.auth import Role, mint_token

_LIFETIME = timedelta(days=1)


def client_settings() -> Settings:
    """Return the settings; what they leave open is taken from a `dev` that runs in this folder.

    Raises:
        SettingsError: one is wrong.
    """
    return Settings.load(_env_file=(_file(Settings.load()), ".env"))


def local_url(port: int) -> str:
    """Return where a server on this machine answers."""
    return f"http://127.0.0.1:{port}"


def write_access(settings: Settings, made_up_secret: str | None) -> Path:
    """Leave the port of a `dev`, and a secret that it made up, to the clients of its folder and its user."""
    file = _file(settings)
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(f"{ENV_PREFIX}HTTP_PORT={settings.http_port}\n")
        if made_up_secret is not None:
            out.write(f"{ENV_PREFIX}JWT_SECRET={made_up_secret}\n")
    return file


def audit_key(settings: Settings) -> Path:
    """Return the file of the key that signs checkpoints of a `dev`, made up when it is first needed."""
    file = settings.data_dir.resolve() / "audit.key"
    if not file.exists():
        SigningKey.generate().write(file)
    return file


def local_user() -> str:
    """Return the name of whoever runs this program."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return f"user-{os.getuid()}"


def local_token(settings: Settings) -> str:
    """Return a token for the local user, who may do all: whoever has the secret can make himself any token.

    Raises:
        SettingsError: there is no secret.
    """
    return mint_token(
        signing_secret(settings),
        local_user(),
        [Role.ADMIN],
        _LIFETIME,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


def signing_secret(settings: Settings) -> str:
    """Return the secret that signs tokens.

    Raises:
        SettingsError: none is configured.
    """
    if settings.jwt_secret is None:
        raise SettingsError(
            "ASSESSMENTSTORE_JWT_SECRET is not set, so no token can be made: set it to the secret of the web,"
            " give a token (--token or ASSESSMENTSTORE_TOKEN), or run this in the folder of a running `dev`"
        )
    return settings.jwt_secret.get_secret_value()


def _file(settings: Settings) -> Path:
    return settings.data_dir / "dev.env"
