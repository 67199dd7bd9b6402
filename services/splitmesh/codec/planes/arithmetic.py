"""Owns the binary arithmetic coder and the logistic arithmetic in plain Python: the mirror of
`_arithmetic.h`.

Knows no contexts. Probabilities are of 65536 and of the bit being 1; log odds are in 1/256.
"""

from __future__ import annotations

from typing import Final, Protocol

_KNOTS: Final = (
    *(22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768),
    *(40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476),
    *(65500, 65514),
)  # fmt: skip
_TOP: Final = 1 << 24
_ALL: Final = 0xFFFFFFFF


def _squash() -> list[int]:
    spread = range(4096)
    return [(_KNOTS[x >> 7] * (128 - (x & 127)) + _KNOTS[(x >> 7) + 1] * (x & 127) + 64) >> 7 for x in spread]


def _stretch() -> list[int]:
    table: list[int] = []
    for x, p in enumerate(SQUASH):
        table += [x - 2048] * ((p >> 4) + 1 - len(table))
    return table + [2047] * (4096 - len(table))


SQUASH: Final = _squash()
"""Probability of log odds x, at x + 2048."""
STRETCH: Final = _stretch()
"""Log odds of a probability of 4096."""
RATE: Final = [131_072 // (2 * n + 3) for n in range(1024)]
"""How much of an error a cell takes over that has seen n bits, of 65536."""


class Coder(Protocol):
    def code(self, bit: int, one: int, /) -> int:
        """The bit: what was given, or what was read. Raises ValueError where nothing is left to read."""


def _ending(low: int, span: int) -> tuple[int, int]:
    """How many more bytes name a number in low … low + span − 1, the fewest that do, and that number."""
    for count in range(4):
        mask = _ALL >> (8 * count)
        number = (low + mask) & ~mask
        if number < low + span:
            return count, number
    return 4, low


class Encoder:
    """Bits → bytes."""

    def __init__(self) -> None:
        self._low = 0
        self._span = _ALL
        self._out = bytearray()

    def code(self, bit: int, one: int) -> int:
        bound = self._span * one >> 16
        if bit:
            self._span = bound
        else:
            self._low += bound
            self._span -= bound
        while self._span < _TOP:
            self._span <<= 8
            self._put()
        return bit

    def _put(self) -> None:
        if self._low > _ALL:
            self._carry()
        self._out.append(self._low >> 24)
        self._low = (self._low & 0xFFFFFF) << 8

    def _carry(self) -> None:
        """One more in the bytes already there."""
        self._low &= _ALL
        at = len(self._out) - 1
        while self._out[at] == 0xFF:
            self._out[at] = 0
            at -= 1
        self._out[at] += 1

    def finish(self) -> bytes:
        """All bytes. The coder is used up."""
        more, self._low = _ending(self._low, self._span)
        for _ in range(more):
            self._put()
        if self._low > _ALL:
            self._carry()
        return bytes(self._out)


class Decoder:
    """Bytes → bits."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 4
        self._code = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
        self._low = 0
        self._span = _ALL

    def code(self, _: int, one: int) -> int:
        bound = self._span * one >> 16
        bit = int(self._code < bound)
        if bit:
            self._span = bound
        else:
            self._low += bound
            self._code -= bound
            self._span -= bound
        while self._span < _TOP:
            self._span <<= 8
            self._low = (self._low & 0xFFFFFF) << 8
            self._take()
        return bit

    def _take(self) -> None:
        if self._at > len(self._data) + 3:
            raise ValueError("malformed")
        byte = self._data[self._at] if self._at < len(self._data) else 0
        self._code = (self._code << 8 | byte) & _ALL
        self._at += 1

    def finish(self) -> None:
        """Raises ValueError unless the bytes are just those that the encoder writes."""
        low = self._low & _ALL
        more, number = _ending(low, self._span)
        if len(self._data) != self._at - 4 + more or self._code != (number - low) & _ALL:
            raise ValueError("malformed")
