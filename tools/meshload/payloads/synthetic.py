"""Owns payloads that stand for nothing: so many bytes, random but the same every time, or zeros."""

from __future__ import annotations

from typing import Final

import numpy as np

from meshload.payloads.prepared import Prepared, Terms, gathered
from meshload.payloads.spec import Synthetic
from meshload.target import Payload

_SEED: Final = 7


def synthetic(spec: Synthetic, text: str, terms: Terms) -> Prepared:
    """One payload. Raises PayloadError beyond the limit of bytes."""
    random = spec.content == "random"
    data = np.random.default_rng(_SEED).bytes(spec.size_bytes) if random else bytes(spec.size_bytes)
    what = f"synthetic {spec.content} bytes{'' if random else ', which compress'}"
    return gathered([Payload(data, name=what)], spec=text, what=what, limit_bytes=terms.limit_bytes)
