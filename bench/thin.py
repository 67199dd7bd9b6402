"""Detection over 64 kbit/s: features against every frame codec, on a camera that the plan knows.

`make bench-thin`. The video's first seconds make the plan, what follows them is streamed: the same camera at another
time. Then as `bench.lab`, whose options may follow, with the preset "thin-uplink".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "out" / "bench-thin"
PATIENCE = 4
POLICIES = (
    "only:split",
    "adaptive",
    "local-only",
    "only:frame/h264",
    "only:frame/webp",
    "only:frame/jpeg",
    "static:frame/h264-26",
    "static:frame/h264-30",
    "static:frame/h264-34",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT.parent / "shared" / "media" / "vtest.avi", help="video")
    parser.add_argument("--known", type=float, default=15.0, metavar="S", help="seconds of it that make the plan")
    arguments, further = parser.parse_known_args()
    WORK.mkdir(parents=True, exist_ok=True)
    suffix = arguments.source.suffix
    known, rest = WORK / f"known{suffix}", WORK / f"{arguments.source.stem}-rest{suffix}"
    part(arguments.source, known, lambda time_s, key, begun: time_s < arguments.known)
    part(arguments.source, rest, lambda time_s, key, begun: begun or (time_s >= arguments.known and key))
    plan = WORK / "camera.plan"
    command = [sys.executable, "-m", "splitmesh.cli.main", "plan", "coco-ssdlite", "--video", str(known)]
    subprocess.run([*command, "--no-int8", "--patience", str(PATIENCE), "-o", str(plan)], check=True)
    lab = [sys.executable, "-m", "bench.lab", "--name", "thin-uplink", "--preset", "thin-uplink", "--repeats", "1"]
    given = ["--policies", ",".join(POLICIES), "--plan", str(plan), "--source", str(rest)]
    return subprocess.run([*lab, *given, *further], cwd=ROOT, check=False).returncode


def part(source: Path, out: Path, wanted: Callable[[float, bool, bool], bool]) -> None:
    """Copy the packets of a video that `wanted` (seconds, keyframe?, has one been taken?) takes, times from 0."""
    with av.open(str(source)) as before, av.open(str(out), "w") as after:
        stream = before.streams.video[0]
        copied = after.add_stream_from_template(stream)
        first: int | None = None
        for packet in before.demux(stream):
            if packet.dts is None or packet.time_base is None:
                continue
            if wanted(float(packet.dts * packet.time_base), packet.is_keyframe, first is not None):
                first = packet.dts if first is None else first
                packet.pts = None if packet.pts is None else packet.pts - first
                packet.dts -= first
                packet.stream = copied
                after.mux(packet)


if __name__ == "__main__":
    sys.exit(main())
