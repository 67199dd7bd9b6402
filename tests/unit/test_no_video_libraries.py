"""A worker needs no video libraries: it starts without, and refuses what only they decode by name."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in ("av", "PIL"):
            raise ModuleNotFoundError(f"No module named {root!r}", name=root)

sys.meta_path.insert(0, Absent())
"""

REFUSES = (
    BLOCKED
    + """
import splitmesh.cloud.service
from splitmesh.cloud.decoders import Expected, decode_alone, open_decoder
from splitmesh.codec.container import Section, build
from splitmesh.errors import CodecError

expected = Expected({}, (4, 4))
for codec, decode in (
    ("webp", lambda payload: decode_alone(payload, expected, {}.get)),
    ("h264", lambda payload: open_decoder(payload, expected, {}.get)),
):
    try:
        decode(build(codec, 50, [Section("", (4, 4, 3), 1, bytes(8), b"x")]))
    except CodecError as exc:
        print(exc)
"""
)


def test_a_worker_starts_without_them_and_says_what_it_can_t_decode() -> None:
    done = subprocess.run([sys.executable, "-c", REFUSES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert "'webp' can't be decoded here: PIL is not installed" in lines[0] and "splitmesh[edge]" in lines[0]
    assert "'h264' can't be decoded here: av is not installed" in lines[1] and "splitmesh[edge]" in lines[1]
