"""Analyse every picture of a folder, with a progress bar, and write what was found as JSON lines.

Usage: python examples/picture_folder.py FOLDER OUT.jsonl [HOST:PORT]
"""

import json
import os
import sys
from pathlib import Path

from rich.progress import track

from splitmesh import Client

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def main(folder: str, out: str, address: str = "127.0.0.1:9470") -> None:
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    failed = 0
    with Client(address, token=os.environ.get("SPLITMESH_TOKEN", "")) as mesh, Path(out).open("w") as lines:
        results = mesh.analyze(files, budget_ms=10_000)
        for result in track(results, description="analysing", total=len(files)):
            row = {"file": str(files[result.seq])}
            if result.answer is None:
                failed += 1
                row["error"] = result.fault.code
            else:
                row["found"] = result.answer.to_json()
            lines.write(json.dumps(row) + "\n")
    print(f"{len(files) - failed} of {len(files)} pictures analysed")


if __name__ == "__main__":
    main(*sys.argv[1:])
