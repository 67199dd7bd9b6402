"""Owns counts of times in the buckets of an HdrHistogram: recorded in bulk, added, asked for quantiles, exchanged.

Layout and exchanged form are those of http://hdrhistogram.org (V2, deflated, base64), so that other tools read them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from meshload.errors import LoadError

I64: TypeAlias = NDArray[np.int64]
F64: TypeAlias = NDArray[np.float64]

LOWEST_NS = 1000
HIGHEST_NS = 3_600_000_000_000
"""An hour: longer times count as one."""


@dataclass(frozen=True)
class Layout:
    """Buckets for times from 1 µs to 1 h, equal to `digits` significant digits."""

    digits: int

    @cached_property
    def unit_bits(self) -> int:
        return LOWEST_NS.bit_length() - 1

    @cached_property
    def half_bits(self) -> int:
        return int(2 * 10**self.digits - 1).bit_length() - 1

    @cached_property
    def length(self) -> int:
        buckets, reach = 1, 2 << self.half_bits << self.unit_bits
        while reach <= HIGHEST_NS:
            reach, buckets = reach << 1, buckets + 1
        return (buckets + 1) << self.half_bits

    def index(self, values_ns: I64) -> I64:
        """The bucket of each value; values below 0 and above an hour count as those."""
        values = np.clip(values_ns, 0, HIGHEST_NS)
        mask = ((2 << self.half_bits) - 1) << self.unit_bits
        bits = np.frexp((values | mask).astype(np.float64))[1].astype(np.int64)
        bucket = bits - self.unit_bits - self.half_bits - 1
        place = values >> (bucket + self.unit_bits)
        found: I64 = ((bucket + 1) << self.half_bits) + place - (1 << self.half_bits)
        return found

    @cached_property
    def lowest_ns(self) -> I64:
        """The least value of each bucket."""
        index = np.arange(self.length, dtype=np.int64)
        half = 1 << self.half_bits
        bucket = (index >> self.half_bits) - 1
        place = (index & (half - 1)) + half
        first = bucket < 0
        lowest: I64 = np.where(first, place - half, place) << (np.where(first, 0, bucket) + self.unit_bits)
        return lowest

    @cached_property
    def highest_ns(self) -> I64:
        """The greatest value of each bucket."""
        return np.append(self.lowest_ns[1:] - 1, HIGHEST_NS)


FINE = Layout(3)
COARSE = Layout(2)
"""For the seconds of a timeline: equal to about 1 %."""


class Histogram:
    """Counts of times. Not for several threads."""

    __slots__ = ("counts", "layout", "max_ns", "min_ns", "sum_ns")

    def __init__(self, layout: Layout = FINE) -> None:
        self.layout = layout
        self.counts: I64 = np.zeros(layout.length, np.int64)
        self.sum_ns = 0
        self.min_ns = HIGHEST_NS
        self.max_ns = 0

    def __len__(self) -> int:
        return int(self.counts.sum())

    def record(self, values_ns: I64) -> None:
        """Count each of `values_ns` (n,) once."""
        if not len(values_ns):
            return
        np.add.at(self.counts, self.layout.index(values_ns), 1)
        self.sum_ns += int(values_ns.sum())
        self.min_ns = min(self.min_ns, int(values_ns.min()))
        self.max_ns = max(self.max_ns, int(values_ns.max()))

    def add(self, other: Histogram) -> None:
        """Count all that `other`, of the same layout, has counted."""
        self.counts += other.counts
        self.sum_ns += other.sum_ns
        self.min_ns = min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)

    def quantile_ms(self, q: float) -> float | None:
        """The time that a share `q`, in [0, 1], of all does not exceed, in ms; None of nothing."""
        if not len(self):
            return None
        found = quantiles_ns(self.counts[None, :], self.layout.highest_ns, (q,))[0, 0]
        return min(max(float(found), self.min_ns), self.max_ns) / 1e6

    @property
    def mean_ms(self) -> float | None:
        total = len(self)
        return self.sum_ns / total / 1e6 if total else None

    def to_document(self) -> dict[str, Any]:
        """As other programs read it."""
        return {"hdr": self._as_hdr().encode().decode()} | self._ends()

    def _ends(self) -> dict[str, int]:
        return {"sum_ns": self.sum_ns, "min_ns": self.min_ns, "max_ns": self.max_ns}

    def to_sparse(self) -> dict[str, Any]:
        """Buckets that are used, by their numbers."""
        used = np.flatnonzero(self.counts)
        return {"at": used.tolist(), "n": self.counts[used].tolist()} | self._ends()

    def to_packed(self) -> dict[str, Any]:
        """The same, quick to make: base64 of the numbers of used buckets and their counts, uint64, little endian."""
        used = np.flatnonzero(self.counts)
        both = np.stack((used, self.counts[used])).astype("<u8")
        return {"packed": b64encode(both.tobytes()).decode()} | self._ends()

    @staticmethod
    def from_sparse(sparse: dict[str, Any], layout: Layout) -> Histogram:
        """What `to_sparse` or `to_packed` of a histogram of `layout` made.

        Raises KeyError, IndexError or ValueError for anything else.
        """
        made = Histogram(layout)
        if "packed" in sparse:
            at, counts = np.frombuffer(b64decode(sparse["packed"]), "<u8").reshape(2, -1).astype(np.int64)
        else:
            at, counts = np.array(sparse["at"], np.int64), np.array(sparse["n"], np.int64)
        made.counts[at] = counts
        made.sum_ns, made.min_ns, made.max_ns = (int(sparse[key]) for key in ("sum_ns", "min_ns", "max_ns"))
        return made

    @staticmethod
    def from_document(document: dict[str, Any]) -> Histogram:
        """A FINE histogram, of any of these documents. Raises LoadError if `document` is none."""
        if "at" in document or "packed" in document:
            return Histogram.from_sparse(document, FINE)
        made = Histogram(FINE)
        try:
            decoded = HdrHistogram.decode(document["hdr"])
            if (decoded.lowest_trackable_value, decoded.significant_figures) != (LOWEST_NS, FINE.digits):
                raise LoadError("the histogram has other buckets than those of meshload")
            counts = np.array(decoded.counts[:], np.int64)[: FINE.length]
            made.counts[: len(counts)] = counts
            made.sum_ns, made.min_ns, made.max_ns = (int(document[key]) for key in ("sum_ns", "min_ns", "max_ns"))
        except LoadError:
            raise
        except Exception as exc:
            raise LoadError(f"not a histogram: {type(exc).__name__}") from exc
        return made

    def _as_hdr(self) -> Any:
        hdr = HdrHistogram(LOWEST_NS, HIGHEST_NS, self.layout.digits)
        used = np.flatnonzero(self.counts)
        np.frombuffer(hdr.counts, np.int64)[: self.layout.length] = self.counts
        hdr.total_count = int(self.counts.sum())
        if len(used):
            hdr.min_value = int(self.layout.lowest_ns[used[0]])
            hdr.max_value = int(self.layout.highest_ns[used[-1]])
        return hdr


def quantiles_ns(counts: NDArray[Any], values_ns: NDArray[Any], shares: tuple[float, ...]) -> F64:
    """The quantiles at `shares` of each row of counts (n, buckets), as (n, shares): values of their buckets.

    The value at share q is the least that at least q of all counted do not exceed; NaN in a row of nothing.
    """
    cumulated = np.cumsum(counts, axis=1)
    totals = cumulated[:, -1]
    found = np.full((len(counts), len(shares)), np.nan)
    some = totals > 0
    for column, share in enumerate(shares):
        ranks = np.maximum(np.ceil(share * totals[some] - 1e-9), 1)
        found[some, column] = values_ns[(cumulated[some] >= ranks[:, None]).argmax(axis=1)]
    return found
