"""Owns the calibration table of a cut: one immutable value with bytes and an id. Fits nothing, codes nothing.

Layout, little endian: "SMCT", B version, B tensors; per tensor B name length, name, B ndim, ndim × I dims, B axis,
H components, then mean (C,) f4, spread (K,) i4, analysis and synthesis, each as exponents (K,) i1 and numbers (K, C)
i2 (a row is its numbers times two to its exponent: exact in float32, whatever reads it). In version 2, which is of
tables that weigh frequencies, B comes before the matrices: 1 if this tensor's are, else 0. If so weights (H, W) f4
and sizes (K, H, W) u1 come after them, and where K is C there is no synthesis: it is the analysis' inverse. After the
tensors I length and bytes of the plane model, I length and bytes of the temporal plane model (0: none). The id is the
SHA-256 of these bytes.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.frequencies import Frequencies
from splitmesh.codec.compact.transform import MAX_CHANNELS, MAX_COMPONENTS, TensorTable
from splitmesh.codec.container import MAX_DIMENSIONS, MAX_SECTIONS, Buffer
from splitmesh.codec.head import TABLE_ID_BYTES
from splitmesh.codec.planes.model import PlaneModel
from splitmesh.errors import CodecError

MAX_TABLE_BYTES: Final = 1 << 22

_MAGIC: Final = b"SMCT"
_PLAIN, _WEIGHED = 1, 2
"""Versions: tables in which frequencies count alike keep the bytes, and the id, that they always had."""
_TOP: Final = 32_767
_LARGEST_EXPONENT: Final = 100

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CompactTable:
    """Everything calibrated for a cut. Encoder and decoder hold the same one: its id travels, it does not."""

    tensors: tuple[TensorTable, ...]
    """In the order in which they are coded."""
    model: PlaneModel
    temporal_model: PlaneModel | None = None

    @cached_property
    def id(self) -> str:
        """64 hex digits: the SHA-256 of `to_bytes()`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def short_id(self) -> bytes:
        """The first four bytes of the id, as payloads name it."""
        return bytes.fromhex(self.id[: 2 * TABLE_ID_BYTES])

    def to_bytes(self) -> bytes:
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        version = _WEIGHED if any(tensor.frequencies for tensor in self.tensors) else _PLAIN
        parts = [struct.pack("<4sBB", _MAGIC, version, len(self.tensors))]
        parts += [_tensor_bytes(tensor, version) for tensor in self.tensors]
        for model in (self.model, self.temporal_model):
            raw = model.to_bytes() if model is not None else b""
            parts += (struct.pack("<I", len(raw)), raw)
        return b"".join(parts)

    @staticmethod
    def from_bytes(data: Buffer) -> CompactTable:
        """Raises CodecError when `data` is not a table of this version, is cut short, too long, or holds nonsense."""
        if len(data) > MAX_TABLE_BYTES:
            raise CodecError(f"a table of {len(data)} bytes exceeds {MAX_TABLE_BYTES}")
        reader = _Reader(bytes(data))
        magic, version, count = reader.unpack("<4sBB")
        if magic != _MAGIC or version not in (_PLAIN, _WEIGHED):
            known = f"{_PLAIN} or {_WEIGHED}"
            raise CodecError(f"table starts with {magic!r} version {version}, not {_MAGIC!r} version {known}")
        if not 1 <= count <= MAX_SECTIONS:
            raise CodecError(f"a table holds 1 … {MAX_SECTIONS} tensors, not {count}")
        tensors = tuple(_read_tensor(reader, version) for _ in range(count))
        if version == _WEIGHED and not any(tensor.frequencies for tensor in tensors):
            raise CodecError(f"a table of version {_WEIGHED} weighs the frequencies of no tensor")
        if len({tensor.name for tensor in tensors}) != count:
            raise CodecError("table names a tensor twice")
        models = [reader.take(reader.unpack("<I")[0]) for _ in range(2)]
        reader.end()
        temporal = PlaneModel.from_bytes(models[1]) if models[1] else None
        return CompactTable(tensors, PlaneModel.from_bytes(models[0]), temporal)


def storable(matrix: npt.NDArray[np.float64]) -> F32:
    """`matrix` (rows, columns) as a table stores it: 16 bits an element, relative to its row's largest."""
    return _wide(*_narrow(matrix))


def _narrow(matrix: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int16]]:
    _, above = np.frexp(np.abs(matrix).max(axis=1))
    exponents = np.clip(above - 15, -_LARGEST_EXPONENT, _LARGEST_EXPONENT).astype(np.int8)
    numbers = np.rint(np.ldexp(matrix.astype(np.float64), -exponents[:, None].astype(np.int32)))
    return exponents, np.clip(numbers, -_TOP, _TOP).astype(np.int16)


def _wide(exponents: npt.NDArray[np.int8], numbers: npt.NDArray[np.int16]) -> F32:
    return np.ldexp(numbers.astype(np.float32), exponents[:, None].astype(np.int32))


def inverse(analysis: F32) -> F32:
    """The synthesis that a table does not store. analysis: (C, C). Raises CodecError where there is none."""
    try:
        with np.errstate(over="ignore"):  # what is no float32 is refused as any number that is too large
            found: F32 = np.linalg.inv(analysis.astype(np.float64)).astype(np.float32)
    except np.linalg.LinAlgError as exc:
        raise CodecError("an analysis in the table has no inverse") from exc
    return found


def _tensor_bytes(tensor: TensorTable, version: int) -> bytes:
    name = tensor.name.encode()
    dims = tensor.shape
    by = tensor.frequencies
    if len(name) > 255:
        raise CodecError(f"tensor name {tensor.name!r} exceeds 255 bytes")
    head = struct.pack(f"<B{len(name)}sB{len(dims)}IBH", len(name), name, len(dims), *dims, tensor.axis,
                       len(tensor.spread))  # fmt: skip
    parts = [head, tensor.mean.astype("<f4").tobytes(), tensor.spread.astype("<i4").tobytes()]
    if version == _WEIGHED:
        parts.append(struct.pack("<B", by is not None))
    inverted = by is not None and len(tensor.spread) == tensor.channels
    for matrix in (tensor.analysis,) if inverted else (tensor.analysis, tensor.synthesis.T):
        exponents, numbers = _narrow(matrix)
        parts += (exponents.tobytes(), numbers.astype("<i2").tobytes())
    if by is not None:
        parts += (by.weights.astype("<f4").tobytes(), by.sizes.tobytes())
    return b"".join(parts)


def _read_tensor(reader: _Reader, version: int) -> TensorTable:
    (name_bytes,) = reader.unpack("<B")
    try:
        name = reader.take(name_bytes).decode()
    except UnicodeDecodeError as exc:
        raise CodecError("a tensor's name in the table is not UTF-8") from exc
    (dimensions,) = reader.unpack("<B")
    if not 2 <= dimensions <= MAX_DIMENSIONS:
        raise CodecError(f"tensor {name!r} has {dimensions} dimensions in the table")
    *shape, axis, k = reader.unpack(f"<{dimensions}IBH")
    if not 0 <= axis < dimensions or not 1 <= k <= MAX_COMPONENTS or not 1 <= (c := shape[axis]) <= MAX_CHANNELS:
        raise CodecError(f"tensor {name!r} of shape {tuple(shape)} has {k} components along axis {axis} in the table")
    mean = reader.array("<f4", c).astype(np.float32)
    spread = reader.array("<i4", k).astype(np.int32)
    if spread.min() < 0:
        raise CodecError(f"tensor {name!r} has a component of negative magnitude in the table")
    weighed = reader.unpack("<B")[0] if version == _WEIGHED else 0
    if weighed not in (0, 1):
        raise CodecError(f"tensor {name!r} says {weighed} of its frequencies in the table")
    analysis = _read_matrix(reader, k, c)
    synthesis = inverse(analysis) if weighed and k == c else np.ascontiguousarray(_read_matrix(reader, k, c).T)
    tensor = TensorTable(name, tuple(shape), axis, mean, analysis, synthesis, spread)
    return replace(tensor, frequencies=_read_frequencies(reader, tensor)) if weighed else tensor


def _read_frequencies(reader: _Reader, tensor: TensorTable) -> Frequencies:
    h, w = tensor.height, tensor.width
    weights = reader.array("<f4", h * w).astype(np.float32).reshape(h, w)
    return Frequencies(weights, reader.array("u1", len(tensor.spread) * h * w).reshape(-1, h, w))


def _read_matrix(reader: _Reader, rows: int, columns: int) -> F32:
    exponents = reader.array("i1", rows)
    if np.abs(exponents.astype(np.int16)).max() > _LARGEST_EXPONENT:
        raise CodecError("a matrix in the table has an exponent out of range")
    return _wide(exponents, reader.array("<i2", rows * columns).reshape(rows, columns))


class _Reader:
    """Takes a table's bytes apart from the front. Raises CodecError where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise CodecError(f"table of {len(self._data)} bytes is cut short")
        self._at += count
        return self._data[self._at - count : self._at]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def end(self) -> None:
        if self._at != len(self._data):
            raise CodecError(f"table has {len(self._data) - self._at} bytes left over")
