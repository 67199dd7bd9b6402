"""Owns the "compact" codec: a cut's tensors ↔ one payload that stands alone, by the cut's calibration table.

Body: all tensors' quantised components, coded together by the table's plane model (`codec.planes`). A component
that the table expects to be all zeros at a level is left out, at both ends alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.quantise import dequantise, quantise, to_units
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import TensorTable, step_of
from splitmesh.codec.container import Buffer
from splitmesh.codec.head import Head, build_payload, parse_head
from splitmesh.codec.planes.coding import decode_planes, encode_planes
from splitmesh.errors import CodecError, NeedTable

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
U16 = npt.NDArray[np.uint16]

CODEC: Final = "compact"
Tables = Callable[[bytes], CompactTable | None]
"""The table whose id starts with these four bytes, None if this process does not hold it."""


def encode_compact(tensors: Mapping[str, F32], *, table: CompactTable, level: int) -> bytes:
    """Code `tensors` (wire name → float32 of the table's shapes) into one payload.

    level: 0 … 255, larger is finer; eight levels halve the step.
    Raises CodecError for other tensors or shapes than the table's, and names one with NaN, Inf or magnitudes above
    1e30.
    """
    if tensors.keys() != {tensor.name for tensor in table.tensors}:
        raise CodecError(f"tensors {sorted(tensors)} are not the table's {sorted(t.name for t in table.tensors)}")
    step = step_of(level)
    coded = []
    for tensor in table.tensors:
        scale = kept_scale(tensor, level)
        coded.append((symbols_of(tensor, tensor.forward(tensors[tensor.name], len(scale)), step), scale, None))
    return build_payload(Head(CODEC, level, 0, table.short_id), encode_planes(coded, model=table.model))


def decode_compact(payload: Buffer, *, tables: Tables, expect: Mapping[str, Sequence[int]]) -> dict[str, F32]:
    """Decode a payload into name → float32 C-contiguous tensor, in the order of `expect` (name → shape).

    Raises CodecError when the payload is malformed, is of another codec, or its table is of other tensors or shapes
    than `expect`; NeedTable when `tables` does not know its table.
    """
    head, body = parse_head(payload)
    if head.codec != CODEC or head.flags:
        raise CodecError(f"payload is coded with {head.codec!r} and flags {head.flags}, not with {CODEC!r} and 0")
    table = find_table(head, tables)
    check_expected(table, expect)
    scales = [kept_scale(tensor, head.level) for tensor in table.tensors]
    shapes = [(len(s), t.height, t.width) for s, t in zip(scales, table.tensors, strict=True)]
    planes = decode_planes(body, shapes, model=table.model, scales=scales)
    step = step_of(head.level)
    decoded = {
        tensor.name: tensor.inverse(to_units(dequantise(symbols, step)))
        for tensor, symbols in zip(table.tensors, planes, strict=True)
    }
    return {name: decoded[name] for name in expect}


def symbols_of(tensor: TensorTable, z: F32, step: int) -> I16:
    """What `tensor.forward` gave as integers. Frequencies are rounded alone: they have no neighbours to err with."""
    if tensor.frequencies is None:
        return quantise(z, step)
    return quantise(z.reshape(len(z), 1, -1), step).reshape(z.shape)


def find_table(head: Head, tables: Tables) -> CompactTable:
    """The table that a payload names. Raises NeedTable."""
    table = tables(head.table)
    if table is None:
        raise NeedTable(
            f"payload needs table {head.table.hex()}, which this process does not hold",
            table_id=head.table,
            advice="send it, or give both ends the same plan",
        )
    return table


def check_expected(table: CompactTable, expect: Mapping[str, Sequence[int]]) -> None:
    """Raises CodecError unless the table is of just the tensors `expect` (name → shape)."""
    if {tensor.name: tensor.shape for tensor in table.tensors} != {n: tuple(s) for n, s in expect.items()}:
        known = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in table.tensors)
        raise CodecError(f"the payload's table {table.id[:8]} is of {known}, not of the tensors expected")


def kept_scale(tensor: TensorTable, level: int) -> U16:
    """`tensor.scale(level)` of the components that are coded at `level`: none that is expected to be all zeros."""
    scale = tensor.scale(level)
    largest = scale.reshape(len(scale), -1).max(axis=1)
    return scale[: max(1, int(np.count_nonzero(largest)))]
