"""Owns payloads that stand for nothing: so many bytes that do not compress."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from meshload.errors import LoadError
from meshload.target import Payload

DEFAULT_BYTES = 128
_SIZE = re.compile(r"([0-9]+)(k|M)?B?")


def load(spec: str) -> Sequence[Payload]:
    """One payload of `spec` bytes ("128", "4k", "1M"; "": 128), random but the same every time. Raises LoadError."""
    match = _SIZE.fullmatch(spec or str(DEFAULT_BYTES))
    if match is None:
        raise LoadError(f"--payload synthetic:{spec}: {spec!r} is no size", advice="write it as 128, 4k or 1M")
    size_bytes = int(match[1]) * {None: 1, "k": 1000, "M": 1_000_000}[match[2]]
    return [Payload(np.random.default_rng(7).bytes(size_bytes), name=f"synthetic, {size_bytes} bytes")]
