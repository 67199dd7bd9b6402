"""The adaptive policy decides as it did: thousands of decisions in made-up histories, held to recorded ones.

`python tests/unit/test_policy_golden.py` records them anew, which is right only when decisions are meant to change.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from policy_histories import FRAMES, decisions

from splitmesh.policy.decision import Decision

GOLDEN = Path(__file__).parents[1] / "golden" / "policy" / "decisions.txt.gz"
HISTORIES = 300
TOLERANCE = 1e-9
Row = tuple[str, list[tuple[str, list[float]]]]
"""(CRC of the reason, (point, [utility, p_hit, predicted_ms]) of the choice and of each runner-up)."""


def row(decision: Decision) -> Row:
    forecasts = (decision.chosen, *decision.runners_up)
    numbers = [(f.point.name, [f.utility, f.p_hit, f.predicted_ms]) for f in forecasts]
    return f"{zlib.crc32(decision.reason.encode()):08x}", numbers


def recorded() -> list[Row]:
    return [_parsed(line) for line in gzip.decompress(GOLDEN.read_bytes()).decode().splitlines()]


def _line(made: Row) -> str:
    words = [f"{name}:{':'.join(f'{number:.11g}' for number in numbers)}" for name, numbers in made[1]]
    return " ".join([made[0], *words])


def _parsed(line: str) -> Row:
    reason, *words = line.split(" ")
    parts = [word.split(":") for word in words]
    return reason, [(name, [float(number) for number in numbers]) for name, *numbers in parts]


def _all() -> Iterator[Decision]:
    for seed in range(HISTORIES):
        yield from decisions(seed)


def _tied(made: Row) -> bool:
    """Some utilities are equal but for rounding, so that their order says nothing."""
    return any(abs(one[0] - other[0]) < TOLERANCE for (_, one), (_, other) in pairwise(made[1]))


def _alike(some: list[float], others: list[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in zip(some, others, strict=True))


def test_decisions_are_those_recorded() -> None:
    tied = 0
    for index, (decision, wanted) in enumerate(zip(_all(), recorded(), strict=True)):
        made = row(decision)
        where = f"history {index // FRAMES}, frame {index % FRAMES}: {decision.reason}\nnot {wanted}\nbut {made}"
        assert made[1][0][0] == wanted[1][0][0], where
        assert _alike([numbers[0] for _, numbers in made[1]], [numbers[0] for _, numbers in wanted[1]]), where
        if _tied(wanted):
            tied += 1
            continue
        assert made[0] == wanted[0], where
        for (name, numbers), (wanted_name, wanted_numbers) in zip(made[1], wanted[1], strict=True):
            assert name == wanted_name and _alike(numbers, wanted_numbers), where
    assert tied < 0.1 * len(recorded()), tied


def test_the_histories_go_everywhere() -> None:
    """What was recorded is worth holding to: every place is chosen, and every kind of reason given."""
    made = list(_all())
    places = Counter(decision.point.place for decision in made)
    assert len(places) == 4 and min(places.values()) > 200, places
    said = (", a key of", " parts first", "held by hysteresis", "; breaker", "; link stalled")
    chances = [f.p_hit for decision in made for f in (decision.chosen, *decision.runners_up)]
    assert min(chances) >= 0 and 0.999 < max(chances) <= 1
    counts = {word: sum(word in decision.reason for decision in made) for word in said}
    assert min(counts.values()) > 10, counts


if __name__ == "__main__":
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{_line(row(decision))}\n" for decision in _all())
    GOLDEN.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{len(text.splitlines())} decisions in {GOLDEN.stat().st_size} bytes")
