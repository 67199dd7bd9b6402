"""Owns what a run leaves behind, in a form that adds up: the tally, and what the generator knows of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from signal import Signals
from typing import Any

import numpy as np

from meshload.errors import LoadError
from meshload.histogram import COARSE, Histogram
from meshload.tally import OUTCOMES, SECOND_COUNTS, Share, Tally

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Death:
    """A process of the run that ended before it should have."""

    process: int
    """From 1."""
    of: int
    status: int
    """Its exit status; below 0: minus the number of the signal that killed it."""
    at_s: float
    """Into the measured time, of its last report; what came after is not counted."""
    in_flight: int
    """Requests on their way then: what became of them is not known."""

    def __str__(self) -> str:
        try:
            how = f"was killed by {Signals(-self.status).name}" if self.status < 0 else f"ended, status {self.status}"
        except ValueError:
            how = f"was killed by signal {-self.status}"
        return (
            f"PROCESS {self.process} OF {self.of} DIED: it {how}. Counted is what it had reported, "
            f"{max(0.0, self.at_s):.1f} s into the run; what became of the {self.in_flight:,} requests then on their "
            "way, and what it sent after, is not known, and its share of the load was sent by nobody from then on"
        )


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
    died: list[Death] = field(default_factory=list)
    """Processes of the run that ended by themselves."""

    def add(self, other: Outcome) -> None:
        """Count what `other` has counted, too."""
        self.tally.add(other.tally)
        self.cpus += other.cpus
        self.described = self.described or other.described
        self.payload = self.payload or other.payload
        self.trouble = max(filter(None, (self.trouble, other.trouble)), default=None)
        self.lost = self.lost or other.lost
        self.interrupted = self.interrupted or other.interrupted
        self.died += other.died

    def to_document(self, *, brief: bool = False) -> dict[str, Any]:
        """brief: quick and short, for what one second adds; else with histograms that other programs read."""
        tally = self.tally
        spread = Histogram.to_packed if brief else Histogram.to_document
        each = Histogram.to_packed if brief else Histogram.to_sparse
        first = int(tally.seconds.any(axis=1).argmax()) if brief and len(tally.seconds) else 0
        return {
            "format": FORMAT,
            "measured_s": tally.measured_s,
            "latency": spread(tally.latency),
            "service": spread(tally.service),
            "server": spread(tally.server),
            "lag": spread(tally.lag),
            "held": tally.held,
            "warmup": tally.warmup,
            "labels": tally.labels,
            "tenants": {
                name: {
                    "offered": share.offered,
                    "ok": share.ok,
                    "hit": share.hit,
                    "latency": spread(share.latency),
                }
                for name, share in tally.tenants.items()
            },
            "first_second": first,
            "seconds": {name: tally.column(name)[first:].tolist() for name in SECOND_COUNTS},
            "second_latency": {str(at): each(found) for at, found in sorted(tally.second_latency.items())},
            "cpus": self.cpus,
            "described": self.described,
            "payload": self.payload,
            "trouble": self.trouble,
            "lost": self.lost,
            "interrupted": self.interrupted,
            "died": [asdict(death) for death in self.died],
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
                [Death(**death) for death in document.get("died", [])],
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
    columns = [document["seconds"][name] for name in SECOND_COUNTS]
    rows = np.array(columns, np.int64).T.reshape(-1, len(SECOND_COUNTS))
    before = np.zeros((int(document.get("first_second", 0)), len(SECOND_COUNTS)), np.int64)
    tally.seconds = np.vstack((before, rows)) if len(before) else rows
    for at, sparse in document["second_latency"].items():
        tally.second_latency[int(at)] = Histogram.from_sparse(sparse, COARSE)
    return tally
