"""A worker's own reads: from its tables while they are fresh enough, else as everybody's."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from assessmentstore.agents.app import WorkerStates
from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.positions import Positions

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def state(version: int) -> AssessmentRecord:
    return AssessmentRecord(
        assessment_id="a-1",
        state=AssessmentState.PENDING,
        version=version,
        created_at=NOW,
        updated_at=NOW,
        request_data={},
    )


class Elsewhere:
    """Has the newest state, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Positions | None]] = []

    async def get(
        self, assessment_id: str, *, min_version: int = 0, positions: Positions | None = None
    ) -> AssessmentRecord | None:
        self.asked.append((assessment_id, min_version, positions))
        return state(9)


@pytest.mark.parametrize(
    ("needed", "version"),
    [
        (None, 3),
        ({0: 7}, 3),
        ({0: 7, 1: 4}, 3),
        ({0: 8}, 9),
        ({1: 5}, 9),
        ({2: 1}, 9),
        ({0: 7, 3: 1}, 9),
    ],
)
async def test_a_table_answers_only_where_all_that_is_asked_for_is_in_tables(
    needed: dict[int, int] | None, version: int
) -> None:
    """Partitions 0 and 1 are this worker's, 2 was and is being given up, 3 is another's."""
    tables = [
        SimpleNamespace(position=7, get={"a-1": state(3)}.get),
        SimpleNamespace(position=4, get={}.get),
        SimpleNamespace(position=50, get={"a-1": state(1)}.get),
    ]
    lanes = {number: SimpleNamespace(flowing=number < 2) for number in range(3)}
    elsewhere, positions = Elsewhere(), None if needed is None else Positions(needed)
    states = WorkerStates(
        cast("Any", SimpleNamespace(open=tables.__getitem__)), cast("Any", SimpleNamespace(current=lanes)), elsewhere
    )

    found = await states.get("a-1", positions=positions)

    assert found is not None
    assert found.version == version
    assert elsewhere.asked == ([("a-1", 0, positions)] if version == 9 else [])
