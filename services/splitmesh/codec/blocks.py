"""Owns the lossless stage: uint8 symbols ↔ one Blosc2 chunk. The only file that calls blosc2.

Blosc2 reads much from its chunk's own head (filters, dictionaries, lazy chunks on disk), so that head is compared
with the one this codec writes before the chunk is opened: a sender can't choose what the decoder runs.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Any, Final

import blosc2
import numpy as np
import numpy.typing as npt

from splitmesh.codec.container import Buffer
from splitmesh.errors import CodecError

U8 = npt.NDArray[np.uint8]

_HEAD: Final = struct.Struct("<BBBBiii6sBB6sBB")
_CODEC_SHIFT: Final = 5
_EXTENDED_HEAD, _STORED = 0x05, 0x02
_DICTIONARY, _LAZY = 0x01, 0x08


class Block(Enum):
    """How symbols become bytes. Value: (code in the chunk's head, filter, blosc2 parameters)."""

    LZ4_BITPLANES = (1, blosc2.Filter.BITSHUFFLE, blosc2.Codec.LZ4, 5)
    """Bit planes, then LZ4: the empty planes of a coarse quantiser cost nothing. ~1 GB/s."""
    ZSTD_SYMBOLS = (4, blosc2.Filter.NOFILTER, blosc2.Codec.ZSTD, 1)
    """Plain symbols, then zstd 1, whose Huffman stage reaches their order-0 entropy; bit planes hide it from it."""

    @property
    def parameters(self) -> dict[str, Any]:
        _, chunk_filter, codec, effort = self.value
        return {
            "typesize": 1,
            "nthreads": 1,
            "clevel": effort,
            "codec": codec,
            "filters": [chunk_filter],
            "filters_meta": [0],
            "splitmode": blosc2.SplitMode.NEVER_SPLIT,
        }


_PARAMETERS: Final = {block: block.parameters for block in Block}


def compress(symbols: U8, block: Block) -> bytes:
    """One chunk holding the C-contiguous `symbols`."""
    return bytes(blosc2.compress2(symbols, **_PARAMETERS[block]))


def decompress(chunk: Buffer, count: int, block: Block) -> U8:
    """The (count,) uint8 symbols in `chunk`. Raises CodecError unless it is a chunk of exactly that many."""
    if len(chunk) < _HEAD.size:
        raise CodecError(f"chunk of {len(chunk)} bytes is shorter than its head")
    _, _, flags, typesize, symbols, block_bytes, chunk_bytes, filters, *_, flags2 = _HEAD.unpack_from(chunk)
    code, chunk_filter, *_ = block.value
    coded = flags >> _CODEC_SHIFT == code or flags & _STORED
    if flags & _EXTENDED_HEAD != _EXTENDED_HEAD or typesize != 1 or flags2 & (_DICTIONARY | _LAZY) or not coded:
        raise CodecError("chunk was not written by this codec")
    if filters != bytes([chunk_filter.value, 0, 0, 0, 0, 0]):
        raise CodecError("chunk asks for a filter that this codec does not use")
    if symbols != count or chunk_bytes != len(chunk) or not 0 < block_bytes <= max(count, 1):
        raise CodecError(f"chunk of {len(chunk)} bytes announces {symbols} symbols, expected {count}")
    out: U8 = np.empty(count, np.uint8)
    try:
        blosc2.decompress2(chunk, dst=out, nthreads=1)
    except (RuntimeError, ValueError, TypeError) as exc:
        raise CodecError(f"chunk can't be decompressed: {exc}") from exc
    return out
