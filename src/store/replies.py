"""Replies: how a worker tells a waiting HTTP process what became of its command, over Redis."""

from __future__ import annotations

import orjson

from ..models.assessment import AssessmentRecord
from ..models.commands import CommandHeader
from ..models.errors import ErrorCode, Rejection
from .cache import Message, reply_channel

Outcome = AssessmentRecord | Rejection
"""The state right after a command, or why it was refused."""


def reply_message(header: CommandHeader, outcome: bytes | Rejection | None) -> Message:
    """The reply to a command.

    Args:
        header: of the command, which has a `reply_to`.
        outcome: the state as JSON, or the refusal, or nothing for a duplicate: the first answer is in Postgres.
    """
    reply: dict[str, object] = {"commandId": header.id, "fingerprint": header.fingerprint.hex()}
    if isinstance(outcome, Rejection):
        reply["rejection"] = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
    elif outcome is not None:
        reply["state"] = orjson.Fragment(outcome)
    return reply_channel(header.reply_to or ""), orjson.dumps(reply)


CommandKey = tuple[str, bytes]
"""A command id and the fingerprint: two requests may borrow one id for different contents at the same time."""


def read_reply(message: bytes) -> tuple[CommandKey, Outcome | None]:
    """The command and its outcome, or nothing for a duplicate."""
    reply = orjson.loads(message)
    key = reply["commandId"], bytes.fromhex(reply["fingerprint"])
    if rejection := reply.get("rejection"):
        return key, Rejection(ErrorCode(rejection["code"]), rejection["message"], rejection["details"])
    state = reply.get("state")
    return key, None if state is None else AssessmentRecord.model_validate(state)
