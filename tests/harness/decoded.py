"""Commands as lanes decode them, for tests of what comes after."""

from __future__ import annotations

from assessmentstore.agents.fold import Decoded
from assessmentstore.models.commands import COMMAND_DATA, Command, CommandHeader, CommandType, fingerprint


def command(
    offset: int, kind: str, assessment: str = "a1", *, command_id: str | None = None, **data: object
) -> Decoded:
    """A command as a lane has decoded it; a creation has a request."""
    if kind == "create":
        data = {"assessmentType": "health", "options": {"x": 1.5}} | data
    header = CommandHeader(
        id=command_id or f"c{offset}-{assessment}",
        type=CommandType(f"assessment.{kind}"),
        assessment_id=assessment,
        user_id="bob",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        fingerprint=fingerprint(kind, assessment, "bob", data),
    )
    return Decoded(offset, 0, Command(header=header, data=COMMAND_DATA[header.type].model_validate(data)))
