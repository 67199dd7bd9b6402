"""Histograms: those of HdrHistogram, quantiles within their digits, sums that are those of all values together."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from meshload.errors import LoadError
from meshload.histogram import COARSE, FINE, HIGHEST_NS, LOWEST_NS, Histogram, Layout, quantiles_ns

TIMES = st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=200)


def recorded(values: list[int], layout: Layout = FINE) -> Histogram:
    histogram = Histogram(layout)
    histogram.record(np.array(values, np.int64))
    return histogram


@given(TIMES)
def test_buckets_are_those_of_hdrhistogram(values: list[int]) -> None:
    theirs = HdrHistogram(LOWEST_NS, HIGHEST_NS, 3)
    assert FINE.index(np.array(values)).tolist() == [theirs.get_counts_array_index(value) for value in values]


@pytest.mark.parametrize("layout", [FINE, COARSE])
@given(TIMES)
def test_a_value_lies_in_its_bucket_which_is_as_narrow_as_promised(layout: Layout, values: list[int]) -> None:
    index = layout.index(np.array(values))
    low, high = layout.lowest_ns[index], layout.highest_ns[index]
    assert (low <= values).all() and (values <= high).all()
    assert (high - low <= np.maximum(np.array(values) * 10.0**-layout.digits * 1.03, LOWEST_NS)).all()


@given(TIMES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_a_value_that_was_recorded_within_three_digits(values: list[int], q: float) -> None:
    exact = sorted(values)[max(0, int(np.ceil(q * len(values) - 1e-9)) - 1)]
    found = recorded(values).quantile_ms(q)
    assert found is not None
    assert abs(found * 1e6 - exact) <= max(exact * 1.03e-3, LOWEST_NS)


@given(TIMES, TIMES)
def test_two_histograms_added_are_that_of_all_values(one: list[int], other: list[int]) -> None:
    added, whole = recorded(one), recorded(one + other)
    added.add(recorded(other))
    assert (added.counts == whole.counts).all()
    assert (added.sum_ns, added.min_ns, added.max_ns) == (whole.sum_ns, whole.min_ns, whole.max_ns)


@given(TIMES)
def test_a_document_brings_the_same_histogram_back_and_others_can_read_it(values: list[int]) -> None:
    histogram = recorded(values)
    document = histogram.to_document()
    back = Histogram.from_document(document)
    assert (back.counts == histogram.counts).all() and back.mean_ms == histogram.mean_ms
    assert HdrHistogram.decode(document["hdr"]).get_total_count() == len(values)


def test_nothing_has_no_quantiles() -> None:
    assert Histogram().quantile_ms(0.5) is None and Histogram().mean_ms is None
    assert np.isnan(quantiles_ns(np.zeros((1, 3), np.int64), np.arange(3), (0.5,))).all()


@pytest.mark.parametrize("document", [{}, {"hdr": "AAAA", "sum_ns": 0, "min_ns": 0, "max_ns": 0}])
def test_what_is_no_histogram_is_said_to_be_none(document: dict[str, object]) -> None:
    with pytest.raises(LoadError, match="not a histogram"):
        Histogram.from_document(document)


def test_a_histogram_with_other_buckets_is_refused() -> None:
    other = HdrHistogram(1, 1000, 2)
    other.record_value(5)
    with pytest.raises(LoadError, match="other buckets"):
        Histogram.from_document({"hdr": other.encode(), "sum_ns": 5, "min_ns": 5, "max_ns": 5})
