"""What one decision of the adaptive policy costs → bench/results/decide.json and .png. `make bench-decide`.

Each decision is of a new frame (motion, age of the answer, backlog and link move on), after one more result was
learnt, on a plan of 8, 16 and 32 remote operating points beside "track" and "local", with 1 and 8 workers heard of:
once with streams that their worker holds ("alive"), once with all of them still to begin, so that keys have to be
priced too. `cpu` is processor time of this thread, `wall` the clock's, with whatever else the machine did meanwhile,
and `least` the least processor time of five further tries of each decision, by copies of the policy: what it takes
where nothing comes between. All are told beside a yardstick, a fixed piece of plain Python timed between the
decisions: it compares machines.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from splitmesh.policy.adaptive import Adaptive
from splitmesh.policy.decision import Observation
from splitmesh.policy.payloads import Reference
from splitmesh.policy.point import OperatingPoint, Place
from splitmesh.policy.world import RemoteTimes, World

MS = 1_000_000
POINTS = (8, 16, 32)
WORKERS = (1, 8)
STREAMS = {"alive": Reference.ALIVE, "to begin": Reference.NONE}
WARM_UP = 200
GOAL_US = 150.0
TRIES = 5
TRACK = OperatingPoint("track", Place.TRACK, 1.0)
LOCAL = OperatingPoint("local", Place.LOCAL, 1.0, edge_ms=17.5)
PICTURE = OperatingPoint("frame/jpeg-95", Place.FRAME, 0.96, "", "jpeg", 95, 0, 0.8, 26_000, 0.8, 17.5)
FEATURES = OperatingPoint("split/c/u8zstd-8", Place.SPLIT, 0.99, "c", "u8zstd", 8, 8, 0.3, 22_000, 0.2, 10, 10)
STREAM = replace(FEATURES, codec="temporal", encode_ms=3.7, decode_ms=2.7, payload_bytes=900, key_bytes=8000)


def plan(count: int) -> tuple[OperatingPoint, ...]:
    """`count` remote points in the mix of shipped plans: a quarter pictures, half of them streams of features."""
    made = [TRACK, LOCAL]
    for i in range(count):
        share = 1 - 0.02 * i
        point = (PICTURE, FEATURES, STREAM, STREAM)[i % 4]
        cut = "" if point.place is Place.FRAME else f"c{i % 3}"
        name = "/".join(filter(None, (point.place, cut, f"{point.codec}-{i}")))
        made.append(
            replace(
                point,
                name=name,
                cut=cut,
                level=i,
                fidelity=share * point.fidelity,
                payload_bytes=share * point.payload_bytes,
            )
        )
    return tuple(made)


class Mesh:
    """A world that goes on from frame to frame, over a link of 4 Mbit/s, with one message under way."""

    def __init__(self, points: int, workers: int, streams: Reference) -> None:
        self._rng = random.Random(points)
        self._workers = [f"w-{i}" for i in range(workers)]
        self._streams = streams
        self._now_ns = 10**12
        self._frames = 0
        self.world = World(plan(points), track_kappa=10)
        self.world.on_device(60, 17.5, self._now_ns)
        for _ in range(200):
            self.step()

    def step(self) -> Observation:
        """Everything that happens between two frames, and then the next one."""
        world, rng = self.world, self._rng
        self._frames += 1
        self._now_ns += 40 * MS
        point = rng.choice([each for each in world.points if each.remote])
        key = f"f{self._frames}"
        world.on_sent(key, point, round(point.payload_bytes), self._now_ns)
        replied_ns = self._now_ns + int((25 + point.payload_bytes * 8 / 4e3 + point.cloud_ms) * MS)
        times = RemoteTimes(0.5, point.decode_ms, point.cloud_ms, 0.1)
        world.on_reply(key, point, replied_ns, rng.choice(self._workers), times)
        world.breaker.on_success(replied_ns)
        world.on_result(rng.choice(list(Place)), 100 * rng.lognormvariate(0.0, 0.2), 100, self._now_ns)
        world.track.audit(rng.uniform(0.5, 1), rng.uniform(0, 0.2), rng.uniform(20, 400))
        for each in world.points:
            if each.key_bytes:
                world.payloads.on_reference(each.codec, each.cut, self._streams)
        world.on_sent(f"{key}-next", point, 2000, replied_ns)
        world.link.on_lost(f"f{self._frames - 1}-next")
        self._now_ns = replied_ns
        backlog_ms = rng.choice((0.0, rng.uniform(0, 60)))
        return Observation(replied_ns, 300.0, backlog_ms, 40.0, rng.uniform(0, 0.2), rng.uniform(20, 400))


def yardstick() -> float:
    """Some fifteen microseconds of plain Python."""
    total = 0.0
    for i in range(300):
        total += i * 0.5 if i % 3 else -1.0
    return total


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(µs of processor time, µs of wall time)."""
    cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
    work()
    return (time.thread_time_ns() - cpu_ns) / 1e3, (time.perf_counter_ns() - wall_ns) / 1e3


def least_us(policy: Adaptive, world: World, seen: Observation) -> float:
    """Processor time of deciding on `seen`, the least of `TRIES` by copies of `policy`."""
    taken = []
    for index in range(TRIES):
        # Another age, by a hair: what the tracker was asked last is remembered.
        aged = replace(seen, track_age_ms=(seen.track_age_ms or 0.0) + 1e-9 * (index + 1))
        taken.append(timed(partial(deepcopy(policy).decide, world=world, seen=aged))[0])
    return min(taken)


def measure(points: int, workers: int, streams: str, decisions: int) -> dict[str, Any]:
    mesh, policy = Mesh(points, workers, STREAMS[streams]), Adaptive()
    cpu: list[float] = []
    wall: list[float] = []
    least: list[float] = []
    yardsticks = []
    for index in range(WARM_UP + decisions):
        seen = mesh.step()
        if STREAMS[streams] is Reference.NONE:
            policy = Adaptive()  # one that has not decided on any key yet
        cpu_us, wall_us = timed(partial(policy.decide, world=mesh.world, seen=seen))
        if index >= WARM_UP:
            cpu.append(cpu_us)
            wall.append(wall_us)
            yardsticks.append(timed(yardstick)[0])
            least.append(least_us(policy, mesh.world, seen))
    unit = quantile(yardsticks, 0.5)
    # To the yardstick right after it: a machine that changes pace changes both.
    ratios = [cpu_us / yardstick_us for cpu_us, yardstick_us in zip(cpu, yardsticks, strict=True)]
    row: dict[str, Any] = {"points": points, "workers": workers, "streams": streams, "yardstick_us": round(unit, 2)}
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        row |= {
            f"cpu_{name}_us": round(quantile(cpu, share), 1),
            f"wall_{name}_us": round(quantile(wall, share), 1),
            f"least_{name}_us": round(quantile(least, share), 1),
            f"{name}_yardsticks": round(quantile(ratios, share), 2),
        }
    return row


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.4))
    for streams, color in zip(STREAMS, ("#06c", "#c60"), strict=True):
        for key, style in (("p50_yardsticks", "o-"), ("p99_yardsticks", "o--")):
            mine = [row for row in rows if row["streams"] == streams and row["workers"] == max(WORKERS)]
            label = f"streams {streams}, {key[:3]}"
            axis.plot([row["points"] for row in mine], [row[key] for row in mine], style, color=color, label=label)
    axis.set_xlabel("remote operating points")
    axis.set_ylabel("yardsticks per decision")
    axis.set_xticks(POINTS)
    axis.set_ylim(0)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=3000, help="in each row (default: 3000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows = []
    for points, workers, streams in itertools.product(POINTS, WORKERS, STREAMS):
        row = measure(points, workers, streams, arguments.decisions)
        rows.append(row)
        told = f"p50 {row['cpu_p50_us']} µs, p99 {row['cpu_p99_us']} µs, least p99 {row['least_p99_us']} µs"
        print(f"{points:2} points, {workers} workers, streams {streams:8}: {told}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {
        "goal_us": GOAL_US,
        "decisions": arguments.decisions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rows": rows,
    }
    (arguments.out / "decide.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(rows, arguments.out / "decide.png")


if __name__ == "__main__":
    main()
