"""Owns the receiving end of the "temporal" codec: payloads → tensors. Acknowledges nothing itself."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.intra import find_table
from splitmesh.codec.compact.quantise import LARGEST_SYMBOL, to_units
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer
from splitmesh.codec.head import Head, State, parse_head
from splitmesh.codec.planes.coding import decode_planes
from splitmesh.codec.temporal.frame import CODEC, KEY, MOTION, Layout, alone, following, model_of
from splitmesh.codec.temporal.motion import unpack_motion
from splitmesh.codec.temporal.predict import motion_shape, moves
from splitmesh.codec.temporal.state import Reference, References
from splitmesh.errors import CodecError, NeedKeyframe

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]

KEPT: Final = 16
"""References that a decoder holds: more than an encoder has under way."""


class TemporalDecoder:
    """One stream's receiving end. Any payload it can't decode leaves it as it was."""

    def __init__(self, table: CompactTable, *, kept: int = KEPT) -> None:
        """kept: how many frames, those used last, may be built on."""
        self._table = table
        self._references = References(kept)

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """The tensors of `payload`: wire name → float32 of the table's shapes, in the table's order.

        Payloads may come again, and in any order. Raises NeedKeyframe when the frame that this one builds on is not
        held, or is not what the encoder had; NeedTable when it was coded with another table; CodecError when it is
        malformed.
        """
        head, body = parse_head(payload)
        state = head.state
        if head.codec != CODEC or state is None or head.flags & ~(KEY | MOTION):
            raise CodecError(f"payload is coded with {head.codec!r} and flags {head.flags}, not with {CODEC!r}")
        find_table(head, lambda short_id: self._table if short_id == self._table.short_id else None)
        key = bool(head.flags & KEY)
        layouts, body = self._alone(head, state, body) if key else self._following(head, state, body)
        planes = decode_planes(
            body,
            [layout.shape for layout in layouts],
            model=model_of(self._table, key=key),
            scales=[layout.scale for layout in layouts],
            contexts=[layout.context for layout in layouts],
        )
        if min(int(symbols.min()) for symbols in planes) < -LARGEST_SYMBOL:
            raise CodecError(f"frame {state.number} holds a symbol that no encoder sends")
        frame = Reference(
            state.number,
            tuple(layout.follow(symbols) for layout, symbols in zip(layouts, planes, strict=True)),
        )
        self._references.add(frame)
        return tensors_of(self._table, frame)

    def reset(self) -> None:
        """Forget all frames."""
        self._references.clear()

    def _alone(self, head: Head, state: State, body: memoryview) -> tuple[list[Layout], memoryview]:
        if head.flags & MOTION or state.reference != state.number or state.hash:
            raise CodecError(f"keyframe {state.number} names a reference, or movements")
        return alone(self._table, head.level), body

    def _following(self, head: Head, state: State, body: memoryview) -> tuple[list[Layout], memoryview]:
        if state.reference == state.number:
            raise CodecError(f"frame {state.number} builds on itself")
        reference = self._references.use(state.reference)
        if reference is None or reference.hash != state.hash:
            raise NeedKeyframe(
                f"frame {state.number} builds on frame {state.reference}, "
                + ("which is not held" if reference is None else "of which another state is held"),
                advice="send a keyframe",
            )
        motions: list[I16 | None] = [None] * len(self._table.tensors)
        if head.flags & MOTION:
            may = [i for i, tensor in enumerate(self._table.tensors) if moves(tensor)]
            if not may:
                raise CodecError("payload moves blocks of tensors that have none")
            found, taken = unpack_motion(body, [motion_shape(self._table.tensors[i]) for i in may])
            for i, motion in zip(may, found, strict=True):
                motions[i] = motion
            body = body[taken:]
        return following(self._table, head.level, reference, motions), body


def number_of(payload: Buffer) -> int:
    """Which frame of its stream `payload` is, as acknowledgements name it. Raises CodecError."""
    head, _ = parse_head(payload)
    if head.state is None:
        raise CodecError(f"payload is coded with {head.codec!r}, whose frames have no numbers")
    return head.state.number


def tensors_of(table: CompactTable, frame: Reference) -> dict[str, F32]:
    """The tensors that `frame` stands for, wire name → float32 of the table's shapes."""
    return {
        tensor.name: tensor.inverse(to_units(planes.values))
        for tensor, planes in zip(table.tensors, frame.tensors, strict=True)
    }
