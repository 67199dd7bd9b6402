"""Owns what can be said of a strike from the frames' own lines: none missing, none twice, when the cloud was back.

Pure: records and times in, facts out. Times are monotonic ns of this machine, which all its processes share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord

_LEDGER = re.compile(r"<Ledger (.*?)>")
OFFLOADED = frozenset({Outcome.SPLIT, Outcome.FRAME})
IN_A_ROW = 10
"""So many frames in a row, answered by a worker in time, make a recovery."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's line and when the frame was captured."""

    record: FrameRecord
    captured_ns: int

    @property
    def offloaded_in_time(self) -> bool:
        return self.record.outcome in OFFLOADED and self.record.deadline_hit


def recovered_at(frames: Iterable[Seen], ended_ns: int) -> Seen | None:
    """The first of `IN_A_ROW` frames in a row, captured at or after `ended_ns`, that a worker answered in time.

    None: not yet. A frame whose line has not come breaks the row as a miss does.
    """
    row: list[Seen] = []
    after = (seen for seen in frames if seen.captured_ns >= ended_ns)
    for seen in sorted(after, key=lambda each: each.record.seq):
        if not seen.offloaded_in_time:
            row = []
            continue
        if row and seen.record.seq != row[-1].record.seq + 1:
            row = []
        row.append(seen)
        if len(row) == IN_A_ROW:
            return row[0]
    return None


def missing(seqs: Iterable[int], first: int, end: int) -> list[int]:
    """Of `first` … `end` - 1, those that `seqs` lacks."""
    there = set(seqs)
    return [seq for seq in range(first, end) if seq not in there]


def twice(seqs: Iterable[int]) -> list[int]:
    return sorted(seq for seq, count in Counter(seqs).items() if count > 1)


def in_time(frames: Sequence[Seen]) -> float | None:
    """Share of `frames` answered in time, by whomever; None of none."""
    return sum(seen.record.deadline_hit for seen in frames) / len(frames) if frames else None


def ledger_of(log: str) -> dict[str, int] | None:
    """What an edge counted, by its last words: `captured`, each outcome and `in_flight`. None: it has not said."""
    found = _LEDGER.findall(log)
    if not found:
        return None
    return {key: int(value) for key, value in (pair.split("=") for pair in found[-1].split())}


def faults_of_log(log: str) -> list[str]:
    """Lines of `log` that tell of an exception that nobody handled, or of a fault of ours."""
    signs = ("Traceback", "never retrieved", "Exception in callback", "unforeseen", "Task was destroyed")
    return [line for line in log.splitlines() if any(sign in line for sign in signs)]
