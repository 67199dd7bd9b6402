"""Owns both ends of the "temporal" codec in one, as they are measured: frame after frame, at one level."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import TemporalEncoder

F32 = npt.NDArray[np.float32]


class TemporalCoder:
    """A `FeatureCoder`. lag: how many frames later than at once acknowledgements come."""

    codec: Final = "temporal"

    def __init__(self, table: CompactTable, level: int, lag: int = 0) -> None:
        self.level = level
        self._table = table
        self._lag = lag
        self.reset()

    def encode(self, tensors: Mapping[str, F32]) -> bytes:
        """One payload of `tensors` (wire name → float32 of the table's shapes). Raises CodecError."""
        coded = self._encoder.encode(tensors, level=self.level)
        self._under_way.append(coded.number)
        return coded.payload

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """The tensors of `payload`, each payload once and in order. Raises CodecError."""
        tensors = self._decoder.decode(payload)
        if len(self._under_way) > self._lag:
            self._encoder.acknowledged(self._under_way.popleft())
        return tensors

    def reset(self) -> None:
        """Forget earlier frames: the next one follows nothing."""
        self._encoder = TemporalEncoder(self._table, kept=self._lag + 1)
        self._decoder = TemporalDecoder(self._table)
        self._under_way: deque[int] = deque()
