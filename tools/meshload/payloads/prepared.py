"""Owns prepared payloads as a value: what requests bring, made before the first one is sent. Bounded in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, overload

from meshload.errors import LoadError
from meshload.target import Payload

MAX_PREPARED_BYTES: Final = 256 * 1024 * 1024
"""Of all payloads together, unless the caller says otherwise."""
MAX_FRAMES: Final = 300
"""Of one video, unless the caller says otherwise."""


class PayloadError(LoadError):
    """A payload can't be prepared; `spec` is what was asked for."""

    def __init__(self, message: str, *, spec: str, advice: str = "") -> None:
        super().__init__(f"--payload {spec}: {message}", advice=advice)
        self.spec = spec


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for every kind of payload."""

    model: str = ""
    """Name or ONNX file of the model to whose input pictures are brought; "": the default one."""
    limit_bytes: int = MAX_PREPARED_BYTES
    limit_frames: int = MAX_FRAMES


class Prepared(Sequence[Payload]):
    """At least one payload, to be sent in turn."""

    def __init__(self, payloads: Sequence[Payload], *, note: str) -> None:
        self._payloads = tuple(payloads)
        self.note = note
        """One line for people: what they are, how many, how large."""

    @overload
    def __getitem__(self, index: int) -> Payload: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Payload, ...]: ...
    def __getitem__(self, index: int | slice) -> Payload | tuple[Payload, ...]:
        return self._payloads[index]

    def __len__(self) -> int:
        return len(self._payloads)

    def __repr__(self) -> str:
        return f"<Prepared {self.note}>"


def gathered(made: Iterable[Payload], *, spec: str, what: str, limit_bytes: int) -> Prepared:
    """Take from `made` until `limit_bytes` are full. what: "frames of clip.mp4 as jpeg-85".

    Raises PayloadError if there is none, or if the first is larger than the limit by itself.
    """
    kept: list[Payload] = []
    total, full = 0, False
    for payload in made:
        size = len(payload.data) + len(payload.raw)
        if total + size > limit_bytes:
            full = True
            break
        kept.append(payload)
        total += size
    if not kept:
        reason = f"the first is larger than the limit of {limit_bytes} bytes" if full else "there are none"
        raise PayloadError(f"{what}: {reason}", spec=spec)
    return Prepared(kept, note=_note(what, [len(each.data) for each in kept], limit_bytes if full else 0))


def _note(what: str, sizes: list[int], cut_at_bytes: int) -> str:
    least, most = min(sizes), max(sizes)
    mean = round(sum(sizes) / len(sizes))
    spread = f"of {least} bytes" if least == most else f"of {least} to {most} bytes, {mean} on average"
    left_out = f"; what is beyond {cut_at_bytes / 1e6:g} MB is left out" if cut_at_bytes else ""
    return f"{what}: {len(sizes)} payload{'s' if len(sizes) > 1 else ''} {spread}{left_out}"
