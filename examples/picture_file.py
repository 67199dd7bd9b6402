"""Analyse a picture file through a gateway.

Usage: python examples/picture_file.py FILE [HOST:PORT]
The token is taken from SPLITMESH_TOKEN, where the gateway asks for one.
"""

import os
import sys

from splitmesh import Client


def main(path: str, address: str = "127.0.0.1:9470") -> None:
    with Client(address, token=os.environ.get("SPLITMESH_TOKEN", "")) as mesh:
        labels = mesh.models()[0].labels
        result = mesh.infer(path, budget_ms=2000)
        answer = result.checked()
        for box, score, kind in zip(answer.boxes, answer.scores, answer.classes, strict=True):
            print(f"{labels[kind]:20s} {score:.2f}  {box.round(3).tolist()}")
        print(f"{len(answer)} found by {result.worker} in {result.total_ms:.0f} ms; ask for {result.frame_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
