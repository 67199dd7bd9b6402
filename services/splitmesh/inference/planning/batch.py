"""Owns the proof that a model with an open batch axis treats each picture as if it were alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from splitmesh.errors import MeshError
from splitmesh.inference.session import Array, open_session
from splitmesh.plan.cuts.extract import relative_error

BATCHES = (1, 2, 4)
TOLERANCE = 1e-4
"""Largest relative difference to single runs: kernels may sum in another order for another batch."""


def batch_holds(
    path: Path,
    singles: Sequence[Mapping[str, Array]],
    *,
    threads: int = 1,
    providers: Sequence[str] = ("auto",),
    limit: float = TOLERANCE,
) -> bool:
    """True if batches of 1, 2 and 4 give what single runs of the same model give, stacked.

    singles: at least four inputs of one picture each, by tensor name, leading axis 1; they should differ, or pictures
    that get mixed up would go unnoticed. A model that fails to load or to run on a batch does not hold.
    """
    if len(singles) < max(BATCHES):
        raise ValueError(f"a batch is checked with {max(BATCHES)} pictures, not {len(singles)}")
    try:
        session = open_session(path, threads=threads, providers=providers, lean=True)
        alone = [session.run(dict(inputs)) for inputs in singles[: max(BATCHES)]]
        for size in BATCHES:
            stacked = {name: np.concatenate([one[name] for one in singles[:size]]) for name in singles[0]}
            together = session.run(stacked)
            wanted = {name: np.concatenate([one[name] for one in alone[:size]]) for name in alone[0]}
            if relative_error(together, wanted) > limit:
                return False
    except (MeshError, ValueError):
        return False
    return True
