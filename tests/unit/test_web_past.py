"""What an assessment was at a time that it is not known of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from aiohttp import web

from assessmentstore.models.assessment import AssessmentRecord, AssessmentState
from assessmentstore.models.errors import RejectedError
from assessmentstore.web import past

CREATED = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "words"), [(-1, "There was no assessment a1 at"), (1, "Assessment a1 was imported later than")]
)
async def test_an_import_is_not_said_to_have_not_been_there(
    monkeypatch: pytest.MonkeyPatch, after: int, words: str
) -> None:
    """The store knows an imported assessment since its import, and it was created before that."""

    async def nothing(*_: Any, **__: Any) -> list[AssessmentRecord]:
        return []

    monkeypatch.setattr(past, "states_until", nothing)
    record = AssessmentRecord(
        assessment_id="a1",
        state=AssessmentState.FAILED,
        version=1,
        created_at=CREATED,
        updated_at=CREATED,
        request_data={},
    )

    with pytest.raises(RejectedError, match=words):
        await past.at_time(cast("web.Request", None), record, CREATED + timedelta(days=after))
