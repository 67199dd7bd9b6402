"""Analyse a webcam live: the newest picture goes out, and what comes too late is not waited for.

Usage: python examples/webcam.py [/dev/video0 | VIDEO] [HOST:PORT] [PICTURES]
Needs PyAV: pip install 'splitmesh[edge]'
"""

import os
import sys
import time
from collections.abc import Iterator

import av
import numpy as np

from splitmesh import Client


def pictures(source: str, count: int) -> Iterator[np.ndarray]:
    """Up to `count` pictures, (H, W, 3) uint8 RGB."""
    camera = source.startswith("/dev/")
    with av.open(source, format="v4l2" if camera else None) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == count:
                return
            yield frame.to_ndarray(format="rgb24")


def main(source: str = "/dev/video0", address: str = "127.0.0.1:9470", count: str = "300") -> None:
    started, answered, late = time.monotonic(), 0, 0
    with Client(address, token=os.environ.get("SPLITMESH_TOKEN", "")) as mesh:
        labels = mesh.models()[0].labels
        for result in mesh.analyze(pictures(source, int(count)), budget_ms=300):
            if result.answer is None:
                late += 1
                continue
            answered += 1
            shown = ", ".join(
                f"{labels[c]} {s:.2f}" for c, s in zip(result.answer.classes, result.answer.scores, strict=True)
            )
            print(f"{result.seq:5d} {result.total_ms:4.0f} ms  {shown}")
    print(f"{answered} answered, {late} not, in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
