"""Owns how a frame's decision and end read as sentences. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from splitmesh.v1 import control_pb2 as pb

MAX_RUNNERS_UP = 3
_ENDED = {
    "local": "The whole model ran on the edge",
    "split": "Head on the edge, tail on the worker",
    "frame": "The worker ran the whole model on the picture",
    "resumed": "The edge ran the tail itself, from the cut",
    "tracked": "Carried over from an earlier answer",
    "shed": "Dropped before a decision",
    "expired": "No answer of any kind could be given",
}


def point_in_words(name: str) -> str:
    """`split/n37-64x19x19/temporal-83` as `SPLIT@n37-64x19x19 temporal-83`, `frame/jpeg-50` as `FRAME jpeg-50`."""
    place, *rest = name.split("/")
    if place == "split" and rest:
        return " ".join([f"SPLIT@{rest[0]}", *rest[1:]])
    return " ".join([place.upper(), *rest])


def decision_in_words(frame: pb.FrameReport, *, decided_after_ms: float | None) -> list[str]:
    """What was chosen, why, and what the best of every other place would have come to.

    `decided_after_ms` is the time from capture to the decision; without it nobody knows by how much a forecast, which
    counts from the decision, would have missed the deadline, which counts from capture.
    """
    if not frame.chosen.point:
        return ["Nothing was decided: the frame was dropped before that."]
    left_ms = None if decided_after_ms is None else frame.deadline_ms - decided_after_ms
    sentences = [f"{point_in_words(frame.chosen.point)} because {frame.reason or 'nothing else was possible'}."]
    sentences += [_rival(each, frame.chosen, left_ms) for each in _best_elsewhere(frame.chosen, frame.runners_up)]
    if frame.note:
        sentences.append(f"On the way: {frame.note}.")
    return sentences


def end_in_words(frame: pb.FrameReport) -> str:
    """How the frame was answered, and how that lay to its deadline."""
    how = _ENDED.get(frame.outcome, frame.outcome)
    if not frame.HasField("latency_ms"):
        return f"{how}; no answer within {frame.deadline_ms:.0f} ms."
    spare_ms = frame.deadline_ms - frame.latency_ms
    verdict = f"in time with {spare_ms:.0f} ms to spare" if frame.deadline_hit else f"{-spare_ms:.0f} ms too late"
    return f"{how}; answered {frame.latency_ms:.0f} ms after capture, {verdict}."


def _place(point: str) -> str:
    return point.split("/", 1)[0]


def _best_elsewhere(chosen: pb.Forecast, runners_up: Sequence[pb.Forecast]) -> list[pb.Forecast]:
    """The best runner-up of each place that was not chosen, or the best of all if none is from elsewhere."""
    best: dict[str, pb.Forecast] = {}
    for forecast in runners_up:
        best.setdefault(_place(forecast.point), forecast)
    elsewhere = [each for place, each in best.items() if place != _place(chosen.point)]
    return (elsewhere or list(runners_up[:1]))[:MAX_RUNNERS_UP]


def _rival(rival: pb.Forecast, chosen: pb.Forecast, left_ms: float | None) -> str:
    name = point_in_words(rival.point)
    if rival.p_hit < 0.5:
        odds = f"p={1 - rival.p_hit:.2f}"
        if left_ms is not None and rival.predicted_ms > left_ms:
            return f"{name} would have missed by {rival.predicted_ms - left_ms:.0f} ms with {odds}."
        return f"{name} would have missed with {odds}: {rival.predicted_ms:.0f} ms were expected."
    worth = chosen.utility - rival.utility
    verdict = f"worth {worth:.3f} less" if worth >= 0 else f"worth {-worth:.3f} more by itself"
    return f"{name} would have been in time with p={rival.p_hit:.2f} after {_ms(rival.predicted_ms)}, {verdict}."


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
