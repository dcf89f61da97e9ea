"""A span of time is cut at midnight, and nothing of it is lost or doubled."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from assessmentstore.store.stats import whole_days

MOMENTS = st.datetimes(timezones=st.just(UTC)) | st.dates().map(
    lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC)
)
NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)


@given(MOMENTS | st.none(), MOMENTS | st.none(), MOMENTS)
@example(NOON, NOON + timedelta(hours=1), NOON)
@example(NOON, NOON, NOON)
@example(NOON + timedelta(hours=1), NOON, NOON)
@example(datetime.max.replace(tzinfo=UTC), None, NOON)
def test_each_moment_of_a_span_is_in_one_of_its_parts(
    begin: datetime | None, end: datetime | None, moment: datetime
) -> None:
    span = whole_days(begin, end)

    parts = [
        span.first_day <= moment.date() < span.end_day,
        span.head_begin <= moment < span.head_end,
        span.tail_begin <= moment < span.tail_end,
    ]

    is_within = (begin is None or begin <= moment) and (end is None or moment < end)
    if moment.date() != date.max:  # no day follows it
        assert sum(parts) == is_within
