"""One assessment: choose the servers, inspect them, and judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ..models.assessment import AssessmentRequest
from ..models.result import AssessmentResult
from .inspection import Inspection, inspect, looks_at
from .modes import Mode
from .scope import Scope
from .targets import Catalogue
from .verdict import failure, result

_SLOW_PAUSE = 1.0
"""Seconds after each look, in the slow mode."""

Tell = Callable[[int, str], None]
"""Told the progress, 0 to 100, and what was looked at."""


class AssessmentFailedError(Exception):
    """An assessment fails; the message says why."""


class ModeError(Exception):
    """A request names a mode that there is not, or that is not for it to choose."""


@dataclass(frozen=True, kw_only=True)
class Assessor:
    """Carries out requests."""

    catalogue: Catalogue
    mode: Mode = Mode.NORMAL
    allow_modes: bool = False
    """Whether a request may choose the mode with `options.customOptions.complianceMode`."""

    def mode_of(self, request: AssessmentRequest) -> Mode:
        """The mode that a request runs in.

        Raises:
            ModeError: it may not have the one that it asks for.
        """
        wanted = (request.options.custom_options or {}).get("complianceMode")
        if wanted is None:
            return self.mode
        if not self.allow_modes:
            raise ModeError("complianceMode is for servers that were started with --allow-modes: leave it out")
        if wanted not in list(Mode):
            raise ModeError(f"complianceMode {wanted!r} is not one of {', '.join(Mode)}")
        return Mode(wanted)

    async def assess(self, request: AssessmentRequest, mode: Mode, tell: Tell) -> AssessmentResult:
        """Inspect the servers one after the other.

        Raises:
            AssessmentFailedError: none of them is known, or responds.
        """
        if mode is Mode.FAILING:
            raise AssessmentFailedError("The compliance server fails every assessment, as its mode says")
        if mode is Mode.HANGING:
            await asyncio.Event().wait()
        scope = Scope.of(request)
        targets, missing = self.catalogue.choose(request)
        found: list[Inspection] = []
        for number, target in enumerate(targets):
            looks = looks_at(target, scope)
            inspection = Inspection(target=target)
            async for look, inspection in inspect(target, scope):  # noqa: B007 - the last one is what counts
                done = number + (looks.index(look) + 1) / len(looks)
                tell(round(100 * done / len(targets)), f"{target.name}: {look.words}")
                if mode is Mode.SLOW:
                    await asyncio.sleep(_SLOW_PAUSE)
            found.append(inspection)
        if error := failure(found, missing):
            raise AssessmentFailedError(error)
        return result(found, missing, scope, datetime.now(UTC))
