"""How much of a server is looked at: by the type of the assessment, and by its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from ..models.assessment import AssessmentRequest, AssessmentType


class Aspect(StrEnum):
    """What a check is about."""

    STATUS = "status"
    CONFIGURATION = "configuration"
    SECURITY = "security"


EVERYTHING = frozenset(Aspect)

_OF_TYPE: Mapping[AssessmentType, frozenset[Aspect]] = {
    AssessmentType.HEALTH: frozenset({Aspect.STATUS}),
    AssessmentType.SECURITY: frozenset({Aspect.SECURITY}),
    AssessmentType.COMPLIANCE: EVERYTHING,
}


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The aspects, and how thorough."""

    aspects: frozenset[Aspect]
    deep: bool
    """Whether to look at every topic, access rule, protocol and subfolder too."""
    details: bool
    """Whether to tell what was measured."""
    report: bool

    @classmethod
    def of(cls, request: AssessmentRequest) -> Self:
        """Read a request: an option that is true adds to what the type looks at anyway, and none takes from it."""
        options = request.options
        wanted = {
            Aspect.STATUS: options.check_server_status,
            Aspect.CONFIGURATION: options.validate_config,
            Aspect.SECURITY: options.check_compliance,
        }
        return cls(
            aspects=_OF_TYPE[request.assessment_type] | {aspect for aspect, asked in wanted.items() if asked},
            deep=options.deep_scan is True,
            details=options.include_details is not False,
            report=options.generate_report is True,
        )
