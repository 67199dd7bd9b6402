"""Analyse pictures that are numpy arrays, several at a time, from a program with an event loop.

Usage: python examples/numpy_arrays.py [HOST:PORT]
"""

import asyncio
import os
import sys

import numpy as np

from splitmesh import AsyncClient


def pictures(count: int) -> list[np.ndarray]:
    """Grey ramps with a white square that moves: (H, W, 3) uint8 RGB."""
    ramp = np.linspace(0, 200, 320, dtype=np.uint8)
    made = [np.repeat(np.tile(ramp, (240, 1))[:, :, None], 3, axis=2) for _ in range(count)]
    for number, picture in enumerate(made):
        picture[80:160, 20 * number : 20 * number + 80] = 255
    return made


async def main(address: str = "127.0.0.1:9470") -> None:
    async with AsyncClient(address, token=os.environ.get("SPLITMESH_TOKEN", "")) as mesh:
        # quality=None sends the pixels as they are; without it they are sent as JPEG.
        async for result in mesh.analyze(pictures(8), budget_ms=2000, quality=None):
            found = "nothing" if result.answer is None else f"{len(result.answer)} found"
            print(f"picture {result.seq}: {found}, {result.total_ms:.0f} ms {result.fault or ''}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
