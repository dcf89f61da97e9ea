"""The commands that are a client of the HTTP API; dead letters, audit and recovery, which work where `migrate` does;
and the sample compliance server.

They print for people on a terminal, and JSON with `--json` or where the output goes elsewhere. Everything slow is
imported where it is used: `--help` and a wrong option answer at once.
"""

from __future__ import annotations

from . import audit, batch, compliance, encryption, legacy, lists, live, maintenance, one, recovery, verify

PARTS = (
    *(one.commands, lists.commands, batch.commands, live.commands, maintenance.commands),
    *(audit.commands, compliance.commands, encryption.commands, legacy.commands, recovery.commands, verify.commands),
)
