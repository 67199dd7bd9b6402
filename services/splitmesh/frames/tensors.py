"""Owns the arrays that an answer may hold beside its boxes: which are allowed, and their packed form."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import FrameShapeError

Array = npt.NDArray[Any]

DTYPES = ("float32", "uint8", "uint16", "int32", "int64")
"""What is carried as it is."""
_CARRIED_AS = {
    "float16": "float32",
    "float64": "float32",
    "bool": "uint8",
    "int8": "int32",
    "int16": "int32",
    "uint32": "int64",
}
MAX_TENSORS = 64
MAX_NAME_CHARS = 256
MAX_DIMS = 8
MAX_BYTES = 2**26
"""Of all arrays of an answer together, unpacked."""

_SAMPLE_BYTES = 2**16
_WORTHWHILE = 0.9


@dataclass(frozen=True, slots=True)
class Packed:
    """One array as bytes: little endian, C order, deflated (RFC 1950) where that is shorter, as the length tells.

    Raises FrameShapeError for an unknown dtype, more than 8 dimensions, more than 64 MiB, or more bytes than there
    can be. That deflated bytes hold what they should only shows in `unpack`.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise FrameShapeError(f"dtype {self.dtype!r:.40} is none of {', '.join(DTYPES)}")
        if len(self.shape) > MAX_DIMS or any(not isinstance(n, int) or n < 0 for n in self.shape):
            raise FrameShapeError(f"shape {self.shape!r:.80} is not up to {MAX_DIMS} sizes of 0 or more")
        if self.nbytes > MAX_BYTES:
            raise FrameShapeError(f"shape {self.shape} of {self.dtype} takes more than {MAX_BYTES} bytes")
        if len(self.data) > self.nbytes:
            raise FrameShapeError(f"{len(self.data)} bytes are given for {self.nbytes} of {self.shape} {self.dtype}")

    @property
    def nbytes(self) -> int:
        """Bytes of the array itself."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @staticmethod
    def pack(array: Array) -> Packed:
        """Of an array whose dtype is one of `DTYPES`."""
        name = array.dtype.name
        raw = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        return Packed(name, array.shape, _deflated(raw))

    def to_json(self) -> dict[str, Any]:
        """`{"dtype": d, "shape": [n, …], "data": base64 of the bytes}`."""
        return {"dtype": self.dtype, "shape": list(self.shape), "data": base64.b64encode(self.data).decode("ascii")}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Packed:
        """Raises FrameShapeError, ValueError, KeyError or TypeError for what `to_json` would not give."""
        return Packed(row["dtype"], tuple(row["shape"]), base64.b64decode(row["data"], validate=True))

    def unpack(self) -> Array:
        """The array, read-only. Raises FrameShapeError if the bytes are not what shape and dtype say."""
        raw = self.data
        if len(raw) != self.nbytes:
            stream = zlib.decompressobj()
            try:
                raw = stream.decompress(self.data, self.nbytes + 1)
            except zlib.error as exc:
                raise FrameShapeError(f"{len(self.data)} bytes for {self.shape} {self.dtype}: {exc}") from exc
            if len(raw) != self.nbytes or not stream.eof or stream.unused_data:
                raise FrameShapeError(f"deflated bytes do not hold the {self.nbytes} of {self.shape} {self.dtype}")
        little = np.frombuffer(raw, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)
        array: Array = little.astype(self.dtype, copy=False)
        array.flags.writeable = False
        return array


class Tensors(Mapping[str, Array]):
    """Arrays by name, read-only. Those read from a file stay packed until they are asked for."""

    __slots__ = ("_parts",)

    def __init__(self, arrays: Mapping[str, Array] | None = None) -> None:
        """float16 and float64 become float32, bool uint8, small signed integers int32, uint32 int64.

        Raises FrameShapeError for other dtypes, more than 64 arrays, names that are empty or longer than 256
        characters, more than 8 dimensions, and more than 64 MiB altogether.
        """
        self._parts: dict[str, Array | Packed] = {name: _carried(name, a) for name, a in (arrays or {}).items()}
        self._check()

    @staticmethod
    def of(arrays: Mapping[str, Array]) -> Tensors:
        """`arrays` itself if it is one already."""
        return arrays if isinstance(arrays, Tensors) else Tensors(arrays)

    @staticmethod
    def from_packed(parts: Mapping[str, Packed]) -> Tensors:
        """Raises FrameShapeError for too many, misnamed or too large ones."""
        tensors = Tensors()
        tensors._parts = dict(parts)
        tensors._check()
        return tensors

    @staticmethod
    def from_json(row: Any) -> Tensors:
        """Of `{name: what Packed.to_json gave, …}`. Raises FrameShapeError, ValueError, KeyError or TypeError for
        anything else."""
        if not isinstance(row, dict):
            raise TypeError(f"tensors are an object, not {type(row).__name__}")
        return Tensors.from_packed({name: Packed.from_json(part) for name, part in row.items()})

    def packed(self) -> dict[str, Packed]:
        return {name: p if isinstance(p, Packed) else Packed.pack(p) for name, p in self._parts.items()}

    def compact(self) -> Tensors:
        """The same, packed until asked for."""
        return Tensors.from_packed(self.packed())

    @property
    def held_bytes(self) -> int:
        """What is held in memory: packed ones count as such."""
        return sum(len(p.data) if isinstance(p, Packed) else p.nbytes for p in self._parts.values())

    @property
    def nbytes(self) -> int:
        """Of all arrays, unpacked."""
        return sum(part.nbytes for part in self._parts.values())

    def __getitem__(self, name: str) -> Array:
        part = self._parts[name]
        return part.unpack() if isinstance(part, Packed) else part

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        dtypes = {name: p.dtype if isinstance(p, Packed) else p.dtype.name for name, p in self._parts.items()}
        return f"<Tensors {', '.join(f'{n} {self._parts[n].shape} {d}' for n, d in dtypes.items())}>"

    def _check(self) -> None:
        if len(self._parts) > MAX_TENSORS:
            raise FrameShapeError(f"an answer of {len(self._parts)} tensors: there may be {MAX_TENSORS}")
        for name in self._parts:
            if not name or len(name) > MAX_NAME_CHARS:
                raise FrameShapeError(f"tensor name {name[:40]!r} does not have 1 to {MAX_NAME_CHARS} characters")
        if self.nbytes > MAX_BYTES:
            raise FrameShapeError(
                f"the answer's tensors take {self.nbytes} bytes: there may be {MAX_BYTES}",
                advice="name fewer outputs in the manifest",
            )


def _carried(name: str, array: Array) -> Array:
    dtype = array.dtype.name
    wanted = dtype if dtype in DTYPES else _CARRIED_AS.get(dtype)
    if wanted is None or array.ndim > MAX_DIMS:
        raise FrameShapeError(f"tensor {name!r} is {array.ndim}-dimensional {dtype}, which no answer can hold")
    with np.errstate(over="ignore"):
        view = array.astype(wanted, copy=False).view()
    view.flags.writeable = False
    return view


def _deflated(raw: bytes) -> bytes:
    """`raw` or, where that is shorter, its deflated form. The middle of long ones tells whether to try."""
    if len(raw) > 4 * _SAMPLE_BYTES:
        middle = raw[len(raw) // 2 :][:_SAMPLE_BYTES]
        if len(zlib.compress(middle, 1)) > _WORTHWHILE * _SAMPLE_BYTES:
            return raw
    short = zlib.compress(raw, 1)
    return short if len(short) < len(raw) else raw
