"""Payloads of the compact codec written by earlier versions still decode to the same tensors.

`python tests/unit/test_compact_golden.py` writes them anew, which is right only when a format's version changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.intra import decode_compact, encode_compact
from splitmesh.codec.compact.table import CompactTable

GOLDEN = Path(__file__).parents[1] / "golden" / "compact"
LEVELS = (60, 80, 100)
SHAPES = {"grid": (6, 7, 5), "row": (3, 11)}


def features() -> dict[str, np.ndarray]:
    """Wire name → (8, …) float32 of whole numbers over 8: the same on any machine."""
    rng = np.random.default_rng(11)
    return {name: (rng.integers(-40, 40, (8, *shape)) / 8).astype(np.float32) for name, shape in SHAPES.items()}


def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "tensors.npz") as stored:
        return {key: stored[key] for key in stored.files}


@pytest.mark.parametrize("level", LEVELS)
def test_a_golden_payload_still_decodes_to_the_same_tensors(level: int) -> None:
    table = CompactTable.from_bytes((GOLDEN / "small.table").read_bytes())
    out = decode_compact(
        (GOLDEN / f"level-{level}.bin").read_bytes(),
        tables=lambda prefix: table if prefix == table.short_id else None,
        expect={name: (1, *shape) for name, shape in SHAPES.items()},
    )
    for name, tensor in out.items():
        np.testing.assert_allclose(tensor, expected()[f"{name}-{level}"], rtol=1e-5, atol=1e-5)


def test_a_golden_table_is_read_and_written_the_same() -> None:
    data = (GOLDEN / "small.table").read_bytes()
    assert CompactTable.from_bytes(data).to_bytes() == data


def write() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    frames = features()
    table = fit_table(frames)
    (GOLDEN / "small.table").write_bytes(table.to_bytes())
    one = {name: tensor[:1] for name, tensor in frames.items()}
    tensors = {}
    for level in LEVELS:
        payload = encode_compact(one, table=table, level=level)
        (GOLDEN / f"level-{level}.bin").write_bytes(payload)
        expect = {name: tensor.shape for name, tensor in one.items()}
        out = decode_compact(payload, tables=lambda _: table, expect=expect)
        tensors |= {f"{name}-{level}": tensor for name, tensor in out.items()}
    np.savez(GOLDEN / "tensors.npz", **tensors)


if __name__ == "__main__":
    write()
