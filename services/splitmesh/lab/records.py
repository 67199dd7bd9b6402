"""Owns reading `results.jsonl` back and checking the conservation law on it. Trusts no counter of the edge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitmesh.errors import MeshError
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord

_NAMED = 20


@dataclass(frozen=True, slots=True)
class RunRecords:
    """The frames of one run in the order of `seq`, and what the check of the raw file found."""

    records: tuple[FrameRecord, ...]
    """One per seq: for a duplicated seq the first line."""
    duplicates: tuple[int, ...]
    """Sequence numbers with more than one line."""
    missing: tuple[int, ...]
    """Sequence numbers below the highest (or below `expected`) that have no line."""
    malformed: tuple[int, ...]
    """Line numbers, from 1, that are no frame record (a line cut off by a crash, for instance)."""
    expected: int
    """How many frames the edge is known to have captured: at least so many, or exactly so many."""
    exact: bool

    @property
    def captured(self) -> int:
        """Distinct frames known to have been captured."""
        return len(self.records) + len(self.missing)

    @property
    def conserved(self) -> bool:
        """Exactly one line per captured frame, no gaps, and none that the edge does not know of."""
        return not (self.duplicates or self.missing or self.malformed or self._unknown)

    @property
    def _unknown(self) -> int:
        return max(0, len(self.records) - self.expected) if self.exact else 0

    def counts(self) -> dict[str, int]:
        """`{"captured": n, "local": n, …, "expired": n}`, every key always present."""
        by_outcome = Counter(record.outcome for record in self.records)
        return {"captured": self.captured, **{outcome.value: by_outcome[outcome] for outcome in Outcome}}

    def faults(self) -> list[str]:
        """What breaks the law, one sentence each; empty when conserved."""
        found = []
        if self.missing:
            found.append(f"{len(self.missing)} captured frame(s) left no result: seq {_some(self.missing)}")
        if self.duplicates:
            found.append(f"{len(self.duplicates)} frame(s) have more than one result: seq {_some(self.duplicates)}")
        if self.malformed:
            found.append(f"{len(self.malformed)} line(s) are no frame record: line {_some(self.malformed)}")
        if self._unknown:
            found.append(f"the edge says that it captured {self.expected} frames, {len(self.records)} have results")
        return found


def _some(numbers: tuple[int, ...]) -> str:
    listed = ", ".join(str(n) for n in numbers[:_NAMED])
    return f"{listed}, …" if len(numbers) > _NAMED else listed


def check_lines(lines: Iterable[str], *, expected: int = 0, exact: bool = False) -> RunRecords:
    """Sort and check the lines of a `results.jsonl`.

    `expected`: how many frames the edge captured: exactly so many if `exact`, else at least so many (it was last
    heard of before its end).
    """
    by_seq: dict[int, FrameRecord] = {}
    duplicates: set[int] = set()
    malformed: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = FrameRecord.from_json_line(line)
        except (ValueError, KeyError, TypeError, MeshError):
            malformed.append(number)
            continue
        if record.seq in by_seq:
            duplicates.add(record.seq)
        else:
            by_seq[record.seq] = record
    upto = max(max(by_seq, default=-1) + 1, expected)
    return RunRecords(
        records=tuple(by_seq[seq] for seq in sorted(by_seq)),
        duplicates=tuple(sorted(duplicates)),
        missing=tuple(seq for seq in range(upto) if seq not in by_seq),
        malformed=tuple(malformed),
        expected=expected,
        exact=exact,
    )


def read_records(path: Path, *, expected: int = 0, exact: bool = False) -> RunRecords:
    """`check_lines` on a file; a file that is not there has no lines."""
    if not path.exists():
        return check_lines((), expected=expected, exact=exact)
    with path.open(encoding="utf-8", errors="replace") as lines:
        return check_lines(lines, expected=expected, exact=exact)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines log that another process may still be writing; partial lines are left out."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows
