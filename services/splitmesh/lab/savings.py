"""Owns what a run's codecs saved against sending pictures: the figures, and their part of the page. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from splitmesh.frames.record import FrameRecord
from splitmesh.lab.cells import bar, share, size, text_table
from splitmesh.plan.bundle.schema import PointName, RateRow, parse_point
from splitmesh.plan.rate_curve import LevelRate, RateCurve

YARDSTICK = "jpeg"
_SENT, _JPEG = "#009e73", "#9fb3c8"
_LONG = 3.0
"""The longest bar, in bars of the other tables."""
_AS_JPEG = '<span class="soft">as JPEG</span>'


@dataclass(frozen=True, slots=True)
class Saving:
    """What one codec sent, and what its frames would have cost as JPEG of the same fidelity."""

    place: str
    """"split" or "frame"."""
    codec: str
    frames: int
    sent_bytes: int
    """Over the uplink, retries and probes included."""
    jpeg_bytes: int
    """By the plan's rows, at the quality whose answers are as good."""
    at_least: bool
    """No JPEG of the plan has answers as good: `jpeg_bytes` are those of its best."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def savings(records: Iterable[FrameRecord], rows: Sequence[RateRow]) -> tuple[Saving, ...]:
    """One entry per place and codec that sent something, most frames first; () if the plan has no rows of JPEG.

    Frames that went out as JPEG are left out, and so are those at levels that the plan knows nothing of.
    """
    jpeg = RateCurve.of(rows, cut="", codec=YARDSTICK)
    sent: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        if record.point and record.uplink_bytes:
            sent[record.point].append(record.uplink_bytes)
    found: dict[tuple[str, str], Saving] = {}
    for point, sizes in sent.items():
        name = parse_point(point)
        rate = None if name is None or name.codec == YARDSTICK else _rate(name, rows)
        if name is None or rate is None or jpeg is None:
            continue
        equal = jpeg.keeping(rate.fidelity)
        cost = (equal or jpeg.measured[-1]).payload_bytes
        mine = Saving(name.place, name.codec, len(sizes), sum(sizes), round(len(sizes) * cost), equal is None)
        known = found.get((name.place, name.codec))
        found[name.place, name.codec] = mine if known is None else _sum(known, mine)
    return tuple(sorted(found.values(), key=lambda saving: (-saving.frames, saving.place, saving.codec)))


def _rate(name: PointName, rows: Sequence[RateRow]) -> LevelRate | None:
    curve = RateCurve.of(rows, cut=name.cut, codec=name.codec, variant=name.variant)
    return None if curve is None else curve.at(name.level)


def _sum(one: Saving, other: Saving) -> Saving:
    return Saving(
        one.place,
        one.codec,
        one.frames + other.frames,
        one.sent_bytes + other.sent_bytes,
        one.jpeg_bytes + other.jpeg_bytes,
        one.at_least or other.at_least,
    )


def saved_section(summary: Mapping[str, Any]) -> str:
    """What was sent beside what the same frames would have cost as pictures: a sentence, and two bars per codec."""
    entries = summary["codec_saved"]
    if not entries:
        return ""
    sent, jpeg = (sum(entry[name] for entry in entries) for name in ("sent_bytes", "jpeg_bytes"))
    frames = sum(entry["frames"] for entry in entries)
    less = f"{share(1 - sent / jpeg)} less" if sent <= jpeg else f"{share(sent / jpeg - 1)} more"
    least = "at least " if any(entry["at_least"] for entry in entries) else ""
    sentence = (
        f"{frames:,} frames crossed the link in {size(sent)}. As JPEG pictures whose answers are as good, by the "
        f"plan's figures, they would have taken {least}{size(jpeg)}: the codecs sent {less}."
    )
    rows = []
    longest = max(max(entry["sent_bytes"], entry["jpeg_bytes"]) for entry in entries)
    for entry in entries:
        what = f"{escape(entry['place'])} · {escape(entry['codec'])}"
        more = "≥ " if entry["at_least"] else ""
        for label, name, before, colour in ((what, "sent_bytes", "", _SENT), (_AS_JPEG, "jpeg_bytes", more, _JPEG)):
            each = before + size(entry[name] / entry["frames"])
            rows.append([label, f"{entry['frames']:,}", each, bar(_LONG * entry[name] / longest, colour)])
    table = text_table(["", "frames", "bytes / frame", "in all"], rows, numeric=(1, 2))
    return f'<h2>What the codec saved</h2>\n<p>{sentence}</p>\n<div class="scroll">{table}</div>'
