"""Owns both ends of the "temporal" codec in one, as they are measured: frame after frame, at one level."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer
from splitmesh.codec.temporal.decoder import TemporalDecoder, number_of
from splitmesh.codec.temporal.encoder import KEPT, TemporalEncoder

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
        return self._encoder.encode(tensors, level=self.level).payload

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """The tensors of `payload`, which is acknowledged once `lag` others were decoded. Raises CodecError."""
        tensors = self._decoder.decode(payload)
        self._decoded.append(number_of(payload))
        if len(self._decoded) > self._lag:
            self._encoder.acknowledged(self._decoded.popleft())
        return tensors

    def reset(self) -> None:
        """Forget earlier frames: the next one follows nothing."""
        self._encoder = TemporalEncoder(self._table, kept=KEPT + self._lag)
        self._decoder = TemporalDecoder(self._table)
        self._decoded: deque[int] = deque()
