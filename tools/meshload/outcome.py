"""Owns what a run leaves behind, in a form that adds up: the tally, and what the generator knows of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from meshload.errors import LoadError
from meshload.histogram import COARSE, Histogram
from meshload.tally import OUTCOMES, SECOND_COUNTS, Share, Tally

FORMAT = 1


@dataclass
class Outcome:
    """Of one process, or of several added up."""

    tally: Tally
    cpus: list[float] = field(default_factory=list)
    """Share of a core that each process used in the measured time, 0 to 1."""
    described: str = ""
    """The target, as it describes itself."""
    payload: str = ""
    trouble: tuple[float, str] | None = None
    """(seconds into the measured time, label) of the last error."""
    lost: bool = False
    """The target gave nothing but errors at the end: see `Engine.lost`."""
    interrupted: bool = False

    def add(self, other: Outcome) -> None:
        """Count what `other` has counted, too."""
        self.tally.add(other.tally)
        self.cpus += other.cpus
        self.described = self.described or other.described
        self.payload = self.payload or other.payload
        self.trouble = max(filter(None, (self.trouble, other.trouble)), default=None)
        self.lost = self.lost or other.lost
        self.interrupted = self.interrupted or other.interrupted

    def to_document(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "format": FORMAT,
            "measured_s": tally.measured_s,
            "latency": tally.latency.to_document(),
            "service": tally.service.to_document(),
            "server": tally.server.to_document(),
            "lag": tally.lag.to_document(),
            "held": tally.held,
            "warmup": tally.warmup,
            "labels": tally.labels,
            "tenants": {
                name: {
                    "offered": share.offered,
                    "ok": share.ok,
                    "hit": share.hit,
                    "latency": share.latency.to_document(),
                }
                for name, share in tally.tenants.items()
            },
            "seconds": {name: tally.column(name).tolist() for name in SECOND_COUNTS},
            "second_latency": {str(at): _sparse(found) for at, found in sorted(tally.second_latency.items())},
            "cpus": self.cpus,
            "described": self.described,
            "payload": self.payload,
            "trouble": self.trouble,
            "lost": self.lost,
            "interrupted": self.interrupted,
        }

    @staticmethod
    def from_document(document: Any) -> Outcome:
        """Raises LoadError unless `document` is what `to_document` of this format made."""
        try:
            if document["format"] != FORMAT:
                raise LoadError(f"its counts have format {document['format']}, this meshload reads {FORMAT}")
            return Outcome(
                _tally(document),
                [float(share) for share in document["cpus"]],
                str(document["described"]),
                str(document["payload"]),
                tuple(document["trouble"]) if document["trouble"] else None,
                bool(document["lost"]),
                bool(document["interrupted"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as exc:
            raise LoadError(f"these are no counts of meshload: {type(exc).__name__} {exc}") from exc


def total(outcomes: Sequence[Outcome]) -> Outcome:
    """All of `outcomes`, at least one, as one. They are left as they are."""
    made = Outcome(Tally(0.0))
    for outcome in outcomes:
        made.add(outcome)
    return made


def _tally(document: dict[str, Any]) -> Tally:
    tally = Tally(float(document["measured_s"]))
    tally.latency, tally.service, tally.server, tally.lag = (
        Histogram.from_document(document[name]) for name in ("latency", "service", "server", "lag")
    )
    tally.held, tally.warmup = int(document["held"]), int(document["warmup"])
    for outcome in OUTCOMES[1:]:
        tally.labels[outcome] = {str(label): int(n) for label, n in document["labels"][outcome].items()}
    for name, found in document["tenants"].items():
        share = tally.tenants[name] = Share()
        share.offered, share.ok, share.hit = (int(found[key]) for key in ("offered", "ok", "hit"))
        share.latency = Histogram.from_document(found["latency"])
    tally.seconds = np.array([document["seconds"][name] for name in SECOND_COUNTS], np.int64).T.reshape(
        -1, len(SECOND_COUNTS)
    )
    for at, sparse in document["second_latency"].items():
        tally.second_latency[int(at)] = _dense(sparse)
    return tally


def _sparse(histogram: Histogram) -> dict[str, Any]:
    used = np.flatnonzero(histogram.counts)
    return {
        "at": used.tolist(),
        "n": histogram.counts[used].tolist(),
        "sum_ns": histogram.sum_ns,
        "min_ns": histogram.min_ns,
        "max_ns": histogram.max_ns,
    }


def _dense(sparse: dict[str, Any]) -> Histogram:
    histogram = Histogram(COARSE)
    histogram.counts[np.array(sparse["at"], np.int64)] = sparse["n"]
    histogram.sum_ns, histogram.min_ns, histogram.max_ns = (int(sparse[k]) for k in ("sum_ns", "min_ns", "max_ns"))
    return histogram
