"""Owns the codecs that need a cut's calibration table as coders, both ends in one. Codes nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from splitmesh.codec.coders import FeatureCoder, StatelessFeatures
from splitmesh.codec.compact.intra import decode_compact, encode_compact
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer
from splitmesh.codec.registry import CODECS
from splitmesh.codec.temporal.coder import TemporalCoder
from splitmesh.errors import CodecError

F32 = npt.NDArray[np.float32]


class CompactFeatures:
    """ "compact" at one level of a table."""

    codec = "compact"

    def __init__(self, level: int, table: CompactTable) -> None:
        self.level = level
        self._table = table
        self._shapes = {tensor.name: tensor.shape for tensor in table.tensors}

    def encode(self, tensors: Mapping[str, F32]) -> bytes:
        """Raises CodecError; see `encode_compact`."""
        return encode_compact(tensors, table=self._table, level=self.level)

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """Raises CodecError; see `decode_compact`."""
        return decode_compact(payload, tables=self._known, expect=self._shapes)

    def reset(self) -> None:
        """Nothing is held."""

    def _known(self, short_id: bytes) -> CompactTable | None:
        return self._table if short_id == self._table.short_id else None


def feature_coder(
    codec: str, level: int, *, shapes: Mapping[str, tuple[int, ...]], table: CompactTable | None
) -> FeatureCoder:
    """A coder of a cut with `shapes` (wire name → wire shape). Raises CodecError for one whose table is missing.

    "temporal" builds each frame on the one before it, as an edge does while nothing is lost.
    """
    if not CODECS[codec].table:
        return StatelessFeatures(codec, level, shapes)
    if table is None:
        raise CodecError(f"{codec} needs the cut's calibration table", advice="make the plan again on a video")
    return CompactFeatures(level, table) if codec == "compact" else TemporalCoder(table, level)
