"""Owns prepared payloads as a value: what each request brings, made before the first one is sent. Bounded in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from meshload.payloads.envelope import Envelope, Work
from splitmesh.codec.container import parse
from splitmesh.errors import CodecError, MeshError
from splitmesh.wire.requests import MAX_PAYLOAD_BYTES

MAX_PREPARED_BYTES: Final = 256 * 1024 * 1024
"""Of all payloads together, unless the caller says otherwise."""


class PayloadError(MeshError):
    """A payload can't be prepared; `spec` is what was asked for."""

    def __init__(self, message: str, *, spec: str, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.spec = spec


@dataclass(frozen=True, slots=True)
class Payload:
    """content: one codec container for the mesh, or plain bytes. raw: what a server outside the mesh gets: a picture's
    file without the container around it, else `content` itself."""

    content: bytes
    raw: bytes | memoryview


class Payloads:
    """At least one payload, taken in turn. work: of which model and cut they are, None where nobody knows."""

    def __init__(self, payloads: tuple[Payload, ...], *, note: str, work: Work | None = None) -> None:
        self._payloads = payloads
        self.note = note
        """One line for people: what they are, how many, how large."""
        self.work = work

    def __len__(self) -> int:
        return len(self._payloads)

    def __getitem__(self, index: int) -> Payload:
        """Payload `index` modulo their number."""
        return self._payloads[index % len(self._payloads)]

    def __iter__(self) -> Iterator[Payload]:
        return iter(self._payloads)

    @property
    def bytes(self) -> int:
        """Of all of them together."""
        return sum(len(payload.content) for payload in self._payloads)

    def envelopes(self, work: Work | None = None) -> tuple[Envelope, ...]:
        """Ready mesh requests, one for each payload. work: needed where the payloads know none.

        Raises PayloadError without any, and for a payload that no request may hold.
        """
        work = work or self.work
        if work is None:
            raise PayloadError(
                "these payloads do not say of which model they are", spec=self.note, advice="name the model"
            )
        largest = max(len(payload.content) for payload in self._payloads)
        if largest > MAX_PAYLOAD_BYTES:
            raise PayloadError(
                f"a payload of {largest} bytes is more than a request of the mesh holds ({MAX_PAYLOAD_BYTES})",
                spec=self.note,
                advice="choose a smaller picture or a coarser level",
            )
        return tuple(Envelope(work, payload.content) for payload in self._payloads)


def gathered(
    made: Iterable[Payload], *, spec: str, what: str, limit_bytes: int, work: Work | None = None
) -> Payloads:
    """Take from `made` as long as all of it stays within `limit_bytes`. what: "frames of clip.mp4 as jpeg-85".

    Raises PayloadError if there is none, if one is empty, or if the first is larger than the limit by itself.
    """
    kept: list[Payload] = []
    total, full = 0, False
    for payload in made:
        if not payload.content:
            raise PayloadError(f"{what}: payload {len(kept) + 1} is empty", spec=spec)
        if total + len(payload.content) > limit_bytes:
            full = True
            break
        kept.append(payload)
        total += len(payload.content)
    if not kept:
        reason = f"the first is larger than the limit of {limit_bytes} bytes" if full else "there are none"
        raise PayloadError(f"{what}: {reason}", spec=spec)
    sizes = sorted(len(payload.content) for payload in kept)
    spread = f"{sizes[0]} bytes each" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]} bytes"
    note = f"{what}: {len(kept)}, {spread}, {total / len(kept):.0f} on average"
    if full:
        note += f"; more than {limit_bytes / 1e6:.0f} MB would not be held, the rest is left out"
    return Payloads(tuple(kept), note=note, work=work)


def picture_file(content: bytes) -> memoryview:
    """The picture's own file (JPEG or WebP) within the container that an edge sends. Raises CodecError for others."""
    sections = parse(content).sections
    if len(sections) != 1 or sections[0].name:
        raise CodecError("the payload holds no picture")
    return memoryview(sections[0].data)
