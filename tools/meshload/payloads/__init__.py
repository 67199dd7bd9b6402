"""Owns which `--payload` is made by whom. Imports a maker only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from meshload.errors import LoadError
from meshload.target import Payload

KINDS: dict[str, str] = {
    "synthetic": "meshload.payloads.synthetic:load",
}
"""Kind: `module:function`; the function takes what follows the colon ("" without one) and gives the payloads."""


def load_payloads(spec: str) -> Sequence[Payload]:
    """The payloads that requests take in turn, at least one. Raises LoadError."""
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise LoadError(f"--payload {spec}: there is no payload {kind!r}", advice=f"known: {', '.join(KINDS)}")
    module, _, function = KINDS[kind].partition(":")
    payloads: Sequence[Payload] = getattr(importlib.import_module(module), function)(rest)
    return payloads
