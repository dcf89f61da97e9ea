"""Metrics of our own making."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from assessmentstore.telemetry import BatchHistogram

_BUCKETS = (0.01, 0.5, 1, 10)


@given(st.lists(st.sampled_from([0.0, *_BUCKETS, 11.0]) | st.integers(0, 2000).map(lambda count: count / 128)))
def test_amounts_together_are_counted_as_they_are_one_by_one(amounts: list[float]) -> None:
    together = BatchHistogram("h", "of amounts", buckets=_BUCKETS, registry=CollectorRegistry())
    one_by_one = Histogram("h", "of amounts", buckets=_BUCKETS, registry=CollectorRegistry())

    together.observe_all(amounts)
    for amount in amounts:
        one_by_one.observe(amount)

    assert _counts(together) == _counts(one_by_one)


def _counts(histogram: Histogram) -> dict[tuple[str, str], float]:
    samples = [sample for metric in histogram.collect() for sample in metric.samples]
    return {
        (sample.name, sample.labels.get("le", "")): round(sample.value, 6)
        for sample in samples
        if not sample.name.endswith("_created")
    }
