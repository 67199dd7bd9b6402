import numpy as np
import numpy.typing as npt

I16 = npt.NDArray[np.int16]
I32 = npt.NDArray[np.int32]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]

def encode(state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, /) -> bytes: ...
def decode(
    state: U32, slots: int, taps: I16, layout: I32, values: I16, scales: U16, contexts: I16, data: bytes, /
) -> None: ...
def cells(slots: int, /) -> int: ...
