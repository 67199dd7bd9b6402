"""Owns the calibrated state of the plane coder as a value with bytes. Codes nothing, fits nothing.

Layout, little endian: "SMPM", B version, B tensors, per tensor H planes, then zlib of: the taps as h planes back, b
rows, b columns, h weight; B place in `COUNTS` of every cell's count; B place in `ODDS` of the probability of every
cell whose count is not zero; h weight of the mixers. Coarser than the coder's own 10 and 16 bits: payloads grow by
0.05 %, a model takes less than half.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes.kernel import KERNEL
from splitmesh.codec.planes.taps import TAPS
from splitmesh.errors import CodecError

I16 = npt.NDArray[np.int16]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]

WEIGHTS: Final = 64 * 5
MOST_TENSORS: Final = 16
MOST_SLOTS: Final = 4096
MOST_MODEL_BYTES: Final = 1 << 21
COUNTS: Final = (0, 2, 6, 16, 30, 60)
"""Counts that a calibrated cell starts with: how slowly it adapts to the payload at hand."""
ODDS: Final = (
    28, 36, 47, 60, 77, 98, 126, 162, 208, 267, 342, 439, 562, 720, 922, 1179, 1506, 1921, 2446, 3108, 3938,
    4971, 6249, 7812, 9702, 11955, 14595, 17625, 21025, 24743, 28693, 32768, 36843, 40793, 44511, 47911, 50941,
    53581, 55834, 57724, 59287, 60565, 61598, 62428, 63090, 63615, 64030, 64357, 64614, 64816, 64974, 65097,
    65194, 65269, 65328, 65374, 65410, 65438, 65459, 65476, 65489, 65500, 65508,
)  # fmt: skip
"""Probabilities in 1/65536 that it starts with: logistic of -7.75 … 7.75 in quarters. Written out, so that no
machine's exponential decides."""

_MAGIC: Final = b"SMPM"
_VERSION: Final = 1
_EVEN: Final = 1 << 31
_TAP_KINDS: Final = ("<i2", "i1", "i1", "<i2")
_TAP_BYTES: Final = 6
_COUNTS: Final = np.array(COUNTS, np.uint32)
_ODDS: Final = np.array(ODDS, np.uint32)
_COUNT_BORDERS: Final = np.array([1, 5, 12, 24, 46])
_ODDS_BORDERS: Final = np.array([(low + high + 1) // 2 for low, high in pairwise(ODDS)])


class PlaneExample(NamedTuple):
    """Planes to calibrate on: int16 (K, H, W), their scale as the coder will be told it, their context."""

    planes: I16
    scale: U16
    """(K,) or (K, H, W) uint16: expected magnitude in 1/16."""
    context: I16 | None = None
    """(K, H, W)"""
    tensor: int = 0
    """Which of a cut's tensors this is: its place in what `encode_planes` is given."""


@dataclass(frozen=True, eq=False)
class PlaneModel:
    """Where the coder's probabilities and weights start. `planes`: how many each tensor of the cut has."""

    planes: tuple[int, ...]
    taps: I16
    """(slots, TAPS, 4): what `taps.fit_taps` gives, tensor after tensor."""
    state: U32
    """(cells + weights,) uint32, the weights int32 by their bits; read only."""

    @property
    def slots(self) -> int:
        return sum(self.planes)

    def to_bytes(self) -> bytes:
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        cells, weights = self.state[:-WEIGHTS], self.state[-WEIGHTS:].view(np.int32)
        counts = np.searchsorted(_COUNT_BORDERS, cells & 1023, "right").astype(np.uint8)
        odds = np.searchsorted(_ODDS_BORDERS, cells[counts > 0] >> 16, "right").astype(np.uint8)
        body = b"".join(self.taps[..., i].astype(kind).tobytes() for i, kind in enumerate(_TAP_KINDS))
        body += counts.tobytes() + odds.tobytes() + (weights >> 5).astype("<i2").tobytes()
        head = struct.pack(f"<4sBB{len(self.planes)}H", _MAGIC, _VERSION, len(self.planes), *self.planes)
        return head + zlib.compress(body, 9)

    @staticmethod
    def from_bytes(data: bytes | bytearray | memoryview) -> PlaneModel:
        """Raises CodecError when `data` is no model of this version, is cut short, too long, or holds nonsense."""
        raw = bytes(data[:MOST_MODEL_BYTES])
        if len(data) > MOST_MODEL_BYTES or len(raw) < 6:
            raise CodecError(f"a plane model has 6 … {MOST_MODEL_BYTES} bytes, not {len(data)}")
        magic, version, tensors = struct.unpack_from("<4sBB", raw)
        start = 6 + 2 * tensors
        if magic != _MAGIC or version != _VERSION or not 1 <= tensors <= MOST_TENSORS or len(raw) < start:
            raise CodecError(f"plane model starts with {magic!r} version {version} of {tensors} tensors")
        planes = struct.unpack_from(f"<{tensors}H", raw, 6)
        if min(planes) < 1 or sum(planes) > MOST_SLOTS:
            raise CodecError(f"a plane model is of 1 … {MOST_SLOTS} planes, not {planes}")
        slots = sum(planes)
        cells = KERNEL.cells(slots)
        tap_bytes = slots * TAPS * _TAP_BYTES
        unpacker = zlib.decompressobj()
        try:
            body = unpacker.decompress(raw[start:], tap_bytes + 2 * cells + 2 * WEIGHTS + 1)
        except zlib.error as exc:
            raise CodecError("plane model can't be decompressed") from exc
        counts = np.frombuffer(body[tap_bytes : tap_bytes + cells], np.uint8)
        known = int(np.count_nonzero(counts))
        whole = unpacker.eof and not unpacker.unused_data
        length = tap_bytes + cells + known + 2 * WEIGHTS
        if not whole or len(body) != length or counts.max(initial=0) >= len(COUNTS):
            raise CodecError("plane model is cut short or holds nonsense")
        odds = np.frombuffer(body, np.uint8, known, tap_bytes + cells)
        if odds.max(initial=0) >= len(ODDS):
            raise CodecError("plane model holds a probability that no model has")
        state = blank_state(slots)
        state[:cells][counts > 0] = _ODDS[odds] << 16 | _COUNTS[counts[counts > 0]]
        weights = np.frombuffer(body, "<i2", WEIGHTS, length - 2 * WEIGHTS).astype(np.int32) << 5
        state[cells:] = weights.view(np.uint32)
        state.flags.writeable = False
        return PlaneModel(planes, _read_taps(body[:tap_bytes], slots), state)


def _read_taps(body: bytes, slots: int) -> I16:
    taps = np.zeros((slots, TAPS, 4), np.int16)
    at = 0
    for i, kind in enumerate(_TAP_KINDS):
        field = np.frombuffer(body, kind, slots * TAPS, at)
        taps[..., i] = field.reshape(slots, TAPS)
        at += field.nbytes
    back, dy, dx, weight = np.moveaxis(taps, 2, 0)
    known = (back != 0) | (dy < 0) | ((dy == 0) & (dx < 0)) | (weight == 0)
    if back.min() < -1 or np.abs(taps[..., 1:3]).max() > 2 or not known.all():
        raise CodecError("plane model has a tap on what is not known yet")
    taps.flags.writeable = False
    return taps


def blank_state(slots: int, inputs: int = 5) -> U32:
    """A state that knows nothing: every probability one half, every input with an equal say."""
    state = np.full(KERNEL.cells(slots) + WEIGHTS, _EVEN, np.uint32)
    state[-WEIGHTS:] = round(1.2 * 65536 / inputs)
    return state
