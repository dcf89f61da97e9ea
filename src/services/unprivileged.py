"""Run a program that refuses to run as root, though its files may lie where only root may enter.

Two ways, for no one way works everywhere; each keeps the pid, since it only changes who the process is:

1. `setpriv`: as `nobody`, with the one capability to pass through folders of others. Works as root of a machine and of
   an ordinary container. "no_setuid_fixup" because access(2), with which Postgres looks at its own executable, else
   leaves that capability out of account.
2. `unshare`: a user namespace in which root is called `nobody`. Works where the user ids are a single one.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .model import MissingError
from .processes import ask

_NOBODY = "nobody"


@dataclass(frozen=True)
class Unprivileged:
    """What to put before a command, and who the files of the program have to belong to."""

    prefix: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None

    @classmethod
    async def find(cls, program: str) -> Self:
        """Return the first way that gets `program --version` to run; when we are not root, that is to do nothing.

        Raises:
            MissingError: no way works.
        """
        if os.geteuid() != 0:
            return cls()
        for way in cls._ways():
            if shutil.which(way.prefix[0]):
                code, _ = await ask(*way.prefix, program, "--version")
                if code == 0:
                    return way
        raise MissingError(f"`setpriv` or `unshare` from util-linux ({program} refuses to run as root; neither helps)")

    def give(self, path: Path) -> None:
        """Make `path` belong to whom the program will run as."""
        if self.owner:
            os.chown(path, *self.owner)

    @classmethod
    def _ways(cls) -> list[Self]:
        try:
            nobody = pwd.getpwnam(_NOBODY)
        except KeyError:
            return []
        uid, gid = nobody.pw_uid, nobody.pw_gid
        identity = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
        powers = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
        namespace = ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}")
        return [cls((*identity, *powers), (uid, gid)), cls(namespace)]
