"""What a run has besides workers, webs and services, by its plan: keys, servers of others, an old system, an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ..settings import Settings
from ..store.encryption import KeyRing
from .attempts import UNDER_WAY, Attempts
from .auditor import Auditor
from .clients import Clients
from .compliance import Compliance
from .faults import Beside, Faults
from .http_client import HttpClient
from .imports import Import, judge_import
from .installation import Installation
from .keys import KeyFile, change_keys, rotate
from .old_system import UNTOLD as UNTOLD_TO_OLD
from .old_system import OldSystem
from .opening import check_sealed, opened
from .plan import AUDITED, BRIDGED, IMPORTED, SEALED, SERVED, TOLD, Fault, Plan
from .receiver import Receiver
from .records import at_most
from .told_audit import judge_audit
from .told_bridge import judge_bridge
from .told_webhooks import UNTOLD, judge_webhook
from .world import Count, World, counted

# A compliance server that is silent is one that is away, soon.
_CALL_SECONDS = 3.0

# Few, so that most assessments are left to their clients.
_CONCURRENCY = 2


class Besides:
    """All that a plan asks for besides."""

    def __init__(self, plan: Plan, folder: Path, broken: Callable[[str], str]) -> None:
        """Make what the plan asks for; `broken` tells what is wrong with the import, or the bridge."""
        self._keys = KeyFile(folder.absolute() / "keys") if SEALED in plan.parts else None
        self._compliance = Compliance() if SERVED in plan.parts else None
        self._receiver = Receiver(_webhooks(plan)) if TOLD in plan.parts else None
        self._auditor = Auditor() if AUDITED in plan.parts else None
        self._old = OldSystem(plan.seed, folder.absolute(), broken("bridge")) if BRIDGED in plan.parts else None
        self._import = Import(plan.seed, folder.absolute(), broken("import")) if IMPORTED in plan.parts else None

    @property
    def settings(self) -> Mapping[str, Any]:
        """What workers and webs have to know of it."""
        found: dict[str, Any] = {}
        if self._keys:
            found["encryption_keys"] = SecretStr(f"@{self._keys.file}")
        if self._compliance:
            found |= {
                "compliance_url": self._compliance.url,
                "compliance_call_timeout": _CALL_SECONDS,
                "compliance_concurrency": _CONCURRENCY,
            }
        if self._receiver:
            found["webhook_allowed_networks"] = "127.0.0.0/8"
        if self._auditor:
            found["audit_url"] = f"{self._auditor.url}/audit"
        return found

    @property
    def _servers(self) -> Sequence[Compliance | Receiver | Auditor]:
        """Those of others."""
        return [server for server in (self._compliance, self._receiver, self._auditor) if server]

    @property
    def unfinished(self) -> Mapping[str, Count]:
        """What is to come to an end before anything is judged, by what is counted."""
        found: dict[str, Count] = {}
        if self._compliance:
            found["attempts are under way"] = counted(UNDER_WAY)
        if self._receiver:
            found["webhooks or partitions have something to tell"] = counted(UNTOLD)
        if self._auditor:
            found["events are not with the audit service"] = self._auditor.missing
        if self._old:
            found["partitions have something to tell the old system"] = counted(UNTOLD_TO_OLD)
        return found

    async def open(self, stack: AsyncExitStack) -> None:
        """Start what has to be there before the workers."""
        for server in self._servers:
            await server.start()
            stack.push_async_callback(server.stop)
        if self._old:
            stack.push_async_callback(self._old.stop)

    async def register(self, http: HttpClient) -> bool:
        """Register webhooks, and say whether that went well."""
        return self._receiver is None or await self._receiver.register(http)

    def faults(self, installation: Installation, faults: Faults, clients: Clients) -> Mapping[str, Beside]:
        """Whoever brings about what happens to it."""
        found: dict[str, Beside] = {}
        if keys := self._keys:

            async def change(_: Fault) -> None:
                await change_keys(keys, installation.settings, faults.restart, clients.ask_again)

            found[SEALED] = change
        if self._compliance:
            found[SERVED] = self._compliance.happen
        if self._receiver:
            found[TOLD] = self._receiver.happen
        if self._auditor:
            found[AUDITED] = self._auditor.happen
        if old := self._old:
            found[BRIDGED] = lambda fault: old.happen(fault, installation)
        if run := self._import:
            found[IMPORTED] = lambda fault: run.happen(fault, installation)
        return found

    def close(self) -> None:
        """The load has ended: what is under way is to come to an end."""
        for server in self._servers:
            server.closing = True

    async def before_reading(self, settings: Settings) -> list[str]:
        """Bring everything into the state that is judged, and say what could not be."""
        if self._old:
            await self._old.read(settings)
        # What was written under the old key since the change.
        return await rotate(settings) if self._keys else []

    def judge(self, world: World, settings: Settings) -> tuple[World, list[str], Mapping[str, int]]:
        """The world in clear, what is wrong, and how much was compared."""
        found: list[str] = []
        checked = Counter[str]()
        keys = KeyRing.of(settings)
        if self._keys:
            found += at_most(check_sealed(world, keys))
            world = opened(world, keys)
            checked["assessments at rest, encrypted"] = len(world.states)
        if self._compliance:
            attempts = Attempts(world, self._compliance.said)
            found += at_most(attempts.all_that_is_wrong())
            checked["attempts of the executor"] = len(attempts.started)
        for hook in self._receiver.hooks if self._receiver else ():
            found += at_most(judge_webhook(hook, world))
            checked["messages that webhooks were told"] += len(hook.taken)
        if self._auditor:
            found += at_most(judge_audit(self._auditor.taken, world, keys))
            checked["records that the audit service took"] = len(self._auditor.taken)
        if self._old:
            found += at_most(judge_bridge(self._old, world))
            checked["events of the old system"] = len(self._old.told)
            checked["notifications of the old system"] = len(self._old.notifications)
        if self._import:
            found += at_most(judge_import(self._import.records, world))
            checked["assessments that were imported"] = len(world.imported)
        return world, found, checked


def _webhooks(plan: Plan) -> list[tuple[str, Mapping[str, Any]]]:
    """Who registers what: everything, one's own, some events, and those of one assessment."""
    first, last = plan.lives[0], plan.lives[-1]
    return [
        ("admin", {}),
        (first.user, {}),
        (last.user, {"eventTypes": ["assessment.completed", "assessment.failed"]}),
        ("admin", {"assessmentId": first.assessment}),
    ]
