"""Owns asking again what was recorded: the same arrivals, faster or slower, with ids of their own.

Payloads are read from the file as their time comes, so that a recording may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

from meshload.arrivals import Arrival
from meshload.recording.entries import Asked, Recording
from meshload.target import Payload
from splitmesh.codec.container import parse
from splitmesh.errors import CodecError
from splitmesh.wire.requests import MAX_PAYLOAD_BYTES

Payloads = Literal["recorded", "bodies", "pictures", "bytes", "given"]
"""What requests bring: the recorded containers; what is in them, for servers outside the mesh; made-up pictures or
bytes of the recorded sizes; those of the run, in turn."""
_CONTENT_TYPES = {"jpeg": "image/jpeg", "roijpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Replay:
    """How a recording is asked again."""

    file: str
    speed: float = 1.0
    """Arrivals come so many times as fast; above 0."""
    model: str = ""
    """Only requests for this one; "": all."""
    payloads: Payloads = "recorded"
    deadline_ns: int = 0
    """Of every request; 0: each has the budget that was left to it when it was recorded."""
    streams: bool = False
    """There are payloads that build on each other."""
    note: str = ""
    """What is in it, for people."""

    def describe(self) -> str:
        """One line."""
        return f"replay of {Path(self.file).name} at {self.speed:g} times its speed"


def arrivals_of(replay: Replay, *, until_ns: int, model: str, every: tuple[int, int] = (0, 1)) -> Iterator[Arrival]:
    """The recorded requests that begin before `until_ns` of the replay, each with its payload.

    model: to whose input made-up pictures are brought. every: (i, n) gives those of every n-th edge, so that n
    processes together ask all, and all that one edge asked comes from one process, in order. Raises ModelError at
    once, RecordingError while it is read.
    """
    return _arrivals(replay, until_ns, _maker(replay, model), every)


def _arrivals(
    replay: Replay, until_ns: int, payload: Callable[[Asked], Payload | None], every: tuple[int, int]
) -> Iterator[Arrival]:
    part, parts = every
    for asked in Recording(Path(replay.file)).requests():
        at_ns = round(asked.at_ns / replay.speed)
        if at_ns >= until_ns:
            return
        if is_asked(asked, replay.model) and crc32(asked.edge.encode()) % parts == part:
            deadline_ns = replay.deadline_ns or max(1, asked.budget_us * 1000)  # 0 would be none
            yield Arrival(at_ns, "", asked.edge, deadline_ns, payload(asked))


def is_asked(asked: Asked, model: str) -> bool:
    """Whether it is asked again: what it builds on is there, and it is for `model` ("": any)."""
    return bool(asked.model) and model in ("", asked.model)


def _maker(replay: Replay, model: str) -> Callable[[Asked], Payload | None]:
    if replay.payloads == "given":
        return lambda _: None
    if replay.payloads == "recorded":
        return _container
    if replay.payloads == "bodies":
        return _body
    from meshload.payloads.stand_ins import pictures, random_bytes

    stand_in = pictures(model) if replay.payloads == "pictures" else random_bytes(MAX_PAYLOAD_BYTES)
    return lambda asked: stand_in(asked.payload_bytes)


def _container(asked: Asked) -> Payload:
    """Pictures go to the model that the target has; tensors of a cut only to the very model that they are of."""
    return Payload(
        asked.payload,
        model_sha256=asked.model_sha256 if asked.cut else "",
        cut=asked.cut,
        stream=asked.stream,
        follows=asked.follows,
    )


def _body(asked: Asked) -> Payload:
    """A picture's file without the container around it; anything else as it is."""
    try:
        found = parse(asked.payload)
    except CodecError:
        return Payload(asked.payload)
    content_type = _CONTENT_TYPES.get(found.codec)
    if content_type is None or len(found.sections) != 1:
        return Payload(asked.payload)
    return Payload(asked.payload, raw=bytes(found.sections[0].data), content_type=content_type)
