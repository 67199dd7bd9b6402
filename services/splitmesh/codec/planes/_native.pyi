from typing_extensions import Buffer

def encode(
    state: Buffer, slots: int, taps: Buffer, layout: Buffer, values: Buffer, scales: Buffer, contexts: Buffer, /
) -> bytes: ...
def decode(
    state: Buffer,
    slots: int,
    taps: Buffer,
    layout: Buffer,
    values: Buffer,
    scales: Buffer,
    contexts: Buffer,
    data: Buffer,
    /,
) -> None: ...
def cells(slots: int, /) -> int: ...
