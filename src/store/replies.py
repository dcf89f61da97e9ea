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
    reply: dict[str, object] = {"commandId": header.id}
    if isinstance(outcome, Rejection):
        reply["rejection"] = {"code": outcome.code, "message": outcome.message, "details": outcome.details}
    elif outcome is not None:
        reply["state"] = orjson.Fragment(outcome)
    return reply_channel(header.reply_to or ""), orjson.dumps(reply)


def read_reply(message: bytes) -> tuple[str, Outcome | None]:
    """The command id and its outcome, or nothing for a duplicate."""
    reply = orjson.loads(message)
    if rejection := reply.get("rejection"):
        return reply["commandId"], Rejection(ErrorCode(rejection["code"]), rejection["message"], rejection["details"])
    state = reply.get("state")
    return reply["commandId"], None if state is None else AssessmentRecord.model_validate(state)
