"""Owns which of the two equal kernels codes planes: the compiled one, or plain Python where that was not built."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes import pure

U32 = npt.NDArray[np.uint32]
U16 = npt.NDArray[np.uint16]
I32 = npt.NDArray[np.int32]
I16 = npt.NDArray[np.int16]


class Kernel(Protocol):
    def encode(
        self, state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, /
    ) -> bytes:
        """`state` learns in place."""

    def decode(
        self, state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, data: bytes, /
    ) -> None:
        """Fills `values`. Raises ValueError."""

    def cells(self, slots: int, /) -> int: ...


def _compiled() -> Kernel | None:
    try:
        from splitmesh.codec.planes import _native
    except ImportError:
        return None
    return _native


COMPILED: Final = _compiled()
"""None where the extension was not built."""
KERNEL: Final[Kernel] = COMPILED or pure
