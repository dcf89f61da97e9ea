"""The executor's commands: on the commands topic as everybody's, under ids that make a repeat harmless."""

from __future__ import annotations

import asyncio

import structlog

from ..client.retries import pauses
from ..models.base import JsonObject
from ..models.commands import CommandType
from ..models.envelope import SOURCE
from ..models.errors import UnavailableError
from ..store.encryption import KeyRing
from ..store.executions import Execution
from ..web.commands import Sender
from ..web.headers import trace_context
from ..web.outgoing import Caller, prepare

log = structlog.get_logger(__name__)

USER = "executor"
"""Who asks, in the audit trail."""


class Commands:
    """Sends commands for attempts, each with the attempt's token."""

    def __init__(self, sender: Sender, keys: KeyRing) -> None:
        self._sender = sender
        self._keys = keys

    async def send(self, kind: CommandType, execution: Execution, command_id: str, data: JsonObject) -> None:
        """Return when Kafka has it, however long that takes.

        Raises:
            RejectedError: the command cannot be stored; nothing was sent.
        """
        command = prepare(
            kind,
            execution.assessment_id,
            data | {"attempt": execution.attempt},
            command_id=command_id,
            caller=Caller(USER, trace_context(execution.traceparent), source=f"{SOURCE}/executor"),
            reply_to=None,
            keys=self._keys,
        )
        for pause in pauses():
            try:
                await self._sender.send(execution.assessment_id, command.value)
            except UnavailableError as error:
                # Whether Kafka has it or not: a second one with its id has no effect.
                log.warning("a command is sent again", command_id=command_id, why=str(error))
                await asyncio.sleep(pause)
            else:
                return
