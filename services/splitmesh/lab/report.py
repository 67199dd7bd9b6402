"""Owns `report.html`: one self-contained page about one lab run. Pure: values in, text out, all of it escaped."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from importlib import resources
from string import Template
from typing import Any

from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import FrameRecord
from splitmesh.lab.cells import amount, bar, share, size, text_table
from splitmesh.lab.plots import OUTCOME_COLOUR, PlotData, as_svg, draw
from splitmesh.lab.savings import saved_section
from splitmesh.lab.strikes import in_words
from splitmesh.lab.summary import answered_in_time

_MISSES_SHOWN = 12
_ENOUGH_S = 5
"""Seconds of a busy uplink below which nothing is said of the emulator's accuracy."""
_FILM = "annotated.mp4"
_FILES: Mapping[str, str] = {
    _FILM: "annotated video",
    "results.jsonl": "every frame (JSON lines)",
    "summary.json": "these figures (JSON)",
    "link.jsonl": "the link, per second",
}
_WORTH_TELLING_MS = 1.0
_MEANING: Mapping[Outcome, str] = {
    Outcome.LOCAL: "whole model on the edge",
    Outcome.SPLIT: "head on the edge, tail on the worker",
    Outcome.FRAME: "picture sent, whole model on the worker",
    Outcome.RESUMED: "no usable reply in time: the edge ran the tail itself, from the cut",
    Outcome.TRACKED: "carried over from an earlier answer by the tracker",
    Outcome.SHED: "dropped before a decision",
    Outcome.EXPIRED: "decided, but no answer of any kind could be given",
}


def render_report(summary: Mapping[str, Any], data: PlotData, *, files: Sequence[str] = ()) -> str:
    """The page. `summary` is what `summarise` returned, `data` the same run for the plots.

    files: names of files beside the page that it may link to; those it has words for are linked.
    """
    template = Template(resources.files("splitmesh.lab").joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"splitmesh lab · {summary['policy']} on {summary['link']}"),
        subtitle=escape(_subtitle(summary)),
        files=_files(files),
        video=_video(files),
        banner=_banner(summary),
        tiles=_tiles(summary),
        score_note=escape(_score_note(summary)),
        plot=as_svg(draw(replace(data, title=""))),
        conservation=_conservation(summary),
        outcomes=_outcomes(summary, data),
        points=_points(summary, data.records),
        saved=saved_section(summary),
        misses=_misses(data.records),
        emulation=escape(str(summary["emulation"])),
        link_note=escape(_link_note(summary)),
        footer=escape(_footer(summary)),
    )


def _subtitle(summary: Mapping[str, Any]) -> str:
    parts = [
        f"model {summary['model']}",
        f"{summary['duration_s']:.0f} s of {summary['source']}",
        f"deadline {summary['deadline_ms']:g} ms",
        f"link {summary['link']}",
    ]
    if summary["edge_slowdown"] != 1:
        parts.append(f"edge slowed ×{summary['edge_slowdown']:g}")
    parts += [f"outage of {o['length_s']:.3g} s at {o['start_s']:.3g} s" for o in summary["outages"]]
    by_hand = {strike["at_s"] for strike in summary["strikes"]}
    parts += [f"worker killed at {at:g} s" for at in summary["worker_kills"] if at not in by_hand]
    return " · ".join(parts)


def _banner(summary: Mapping[str, Any]) -> str:
    notes = [*summary["faults"], *summary["incidents"]]
    if summary["strikes"]:
        notes.append(f"Done by hand during the run: {', '.join(map(in_words, summary['strikes']))}.")
    if summary["interrupted"]:
        notes.append("The run was interrupted; the figures cover what was captured until then.")
    return "".join(f'<p class="banner">{escape(note)}</p>' for note in notes)


def _files(files: Sequence[str]) -> str:
    links = "".join(f'<a href="{name}">{words}</a>' for name, words in _FILES.items() if name in files)
    return f'<p class="files">{links}</p>' if links else ""


def _video(files: Sequence[str]) -> str:
    if _FILM not in files:
        return ""
    return (
        f'<h2>The video with its answers</h2>\n<figure><video controls preload="metadata" src="{_FILM}"></video>'
        "<figcaption>Each frame with the boxes it was given; the banner tells where they came from.</figcaption>"
        "</figure>"
    )


def _tiles(summary: Mapping[str, Any]) -> str:
    latency, frames = summary["latency_ms"], summary["frames"]
    lost = frames.get("shed", 0) + frames.get("expired", 0)
    conserved = "yes" if summary["conserved"] else "NO"
    tiles = [
        (share(summary["deadline_hit"]), "answered in time", f"within {summary['deadline_ms']:g} ms of capture"),
        (share(summary["inferred_hit"]), "by a model, in time", "the rest: carried on by the tracker, or missed"),
        (
            amount(summary["fidelity"], digits=3),
            "fidelity",
            f"{summary['fidelity_measure']} of timely answers against the whole model",
        ),
        (amount(summary["score"], digits=3), "score", "answered in time × fidelity"),
        (f"{amount(latency['p50'])} / {amount(latency['p95'])} ms", "latency", "median / 95th percentile"),
        (size(summary["uplink_bytes"]), "sent", "payload bytes over the uplink"),
        (amount(frames["captured"]), "frames captured", f"{lost:,} of them without any answer"),
        (conserved, "every frame accounted for", "recounted from results.jsonl"),
    ]
    return "".join(
        f'<div class="tile"><b{_tone(label, value)}>{escape(value)}</b><span>{escape(label)}</span>'
        f"<small>{escape(note)}</small></div>"
        for value, label, note in tiles
    )


def _tone(label: str, value: str) -> str:
    if not label.startswith("every frame"):
        return ""
    return ' class="good"' if value == "yes" else ' class="bad"'


def _score_note(summary: Mapping[str, Any]) -> str:
    measure, note, pictures = (summary[f"fidelity_{name}"] for name in ("measure", "note", "pictures"))
    return (
        "Score = share of captured frames answered within the deadline × mean agreement of those answers with the "
        f"unsplit fp32 model ({measure}). Dropped frames count as misses. Fidelity: {note} ({pictures} "
        "distinct pictures)."
    )


def _conservation(summary: Mapping[str, Any]) -> str:
    frames = summary["frames"]
    terms = " + ".join(f"{escape(name)} {count:,}" for name, count in frames.items() if name != "captured")
    verdict = (
        '<b class="good">holds</b>: recounted from results.jsonl, exactly one line per captured frame'
        if summary["conserved"]
        else '<b class="bad">is broken</b>: see the notes at the top'
    )
    return f"captured {frames['captured']:,} = {terms}. The conservation law {verdict}."


def _outcomes(summary: Mapping[str, Any], data: PlotData) -> str:
    rows = []
    captured = summary["frames"]["captured"] or 1
    for outcome in Outcome:
        chosen = [r for r in data.records if r.outcome is outcome]
        measured = [data.fidelity[r.seq] for r in chosen if r.seq in data.fidelity and answered_in_time(r)]
        rows.append(
            [
                f'<span class="swatch" style="background:{OUTCOME_COLOUR[outcome]}"></span>{outcome.value}',
                f"{len(chosen):,}",
                share(len(chosen) / captured),
                bar(len(chosen) / captured, OUTCOME_COLOUR[outcome]),
                share(sum(map(answered_in_time, chosen)) / len(chosen)) if chosen else "–",
                amount(_median([r.latency_ms for r in chosen if r.latency_ms is not None])),
                amount(statistics.fmean(measured), digits=3) if measured else "–",
                f'<span class="soft">{_MEANING[outcome]}</span>',
            ]
        )
    head = ["outcome", "frames", "share", "", "in time", "p50 ms", "fidelity in time", ""]
    return text_table(head, rows, numeric=(1, 2, 4, 5, 6))


def _points(summary: Mapping[str, Any], records: Sequence[FrameRecord]) -> str:
    rows = []
    for point, count in summary["decisions"].items():
        chosen = [r for r in records if r.point == point]
        predicted = [r.predicted_ms for r in chosen if r.predicted_ms is not None]
        rows.append(
            [
                f"<code>{escape(point)}</code>",
                f"{count:,}",
                share(sum(map(answered_in_time, chosen)) / count),
                amount(_median(predicted)),
                amount(_median([r.latency_ms for r in chosen if r.latency_ms is not None])),
                size(statistics.fmean([r.uplink_bytes for r in chosen])) if chosen else "–",
                ", ".join(sorted({r.outcome.value for r in chosen})),
            ]
        )
    if not rows:
        return '<p class="soft">No frame reached a decision.</p>'
    head = ["operating point", "frames", "in time", "predicted ms", "measured ms", "bytes / frame", "ended as"]
    return text_table(head, rows, numeric=(1, 2, 3, 4, 5))


def _misses(records: Sequence[FrameRecord]) -> str:
    missed = [r for r in records if not answered_in_time(r)]
    if not missed:
        return "<p>None: every captured frame was answered within its deadline.</p>"
    step = max(1, len(missed) // _MISSES_SHOWN)
    shown = missed[::step][:_MISSES_SHOWN]
    rows = [
        [
            f"<code>{escape(r.frame_id)}</code>",
            f"{r.captured_ns / 1e9:.2f}",
            r.outcome.value,
            f"<code>{escape(r.point or '–')}</code>",
            amount(r.predicted_ms),
            amount(r.latency_ms),
            escape(why(r)),
        ]
        for r in shown
    ]
    head = ["frame", "at s", "ended as", "decided", "predicted ms", "took ms", "why"]
    spread = "" if len(shown) == len(missed) else f"; shown are {len(shown)}, evenly spread"
    lead = (
        f"<p>{len(missed):,} of {len(records):,} frames{spread}. "
        "<code>splitmesh why FRAME</code> tells the whole story of each.</p>"
    )
    return lead + f'<div class="scroll">{text_table(head, rows, numeric=(1, 4, 5))}</div>'


def why(record: FrameRecord) -> str:
    """One sentence: what was decided for what reason, what went differently, and where the time went."""
    parts = [text for text in (record.reason, record.note) if text]
    if record.times_ms:
        longest = sorted(record.times_ms.items(), key=lambda item: -item[1])[:3]
        told = ", ".join(f"{name} {ms:.0f} ms" for name, ms in longest if ms >= _WORTH_TELLING_MS)
        parts += [f"time went to {told}"] if told else []
    return "; ".join(parts) or "no reason was recorded"


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _link_note(summary: Mapping[str, Any]) -> str:
    accuracy = summary["link_accuracy"]
    told = []
    if accuracy.get("throughput_median_error") is not None and accuracy["saturated_s"] >= _ENOUGH_S:
        told.append(
            f"In the {accuracy['saturated_s']} seconds in which the uplink was always busy, the emulator carried "
            f"what its trace asks for within {share(accuracy['throughput_median_error'])} (median)."
        )
    if accuracy.get("estimate_median_error") is not None:
        told.append(
            f"The edge's bandwidth estimate was off by {share(accuracy['estimate_median_error'])} (median over its "
            "decisions outside outages; it learns only from what it sends)."
        )
    return " ".join(told)


def _footer(summary: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    return f"Model sha256 {summary['model_sha256'][:16]}… · {versions}"
