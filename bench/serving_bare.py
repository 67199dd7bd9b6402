"""The loop without a server: `bench.peers.work` over the same bodies, one after another, in a process of its own.

`python -m bench.serving_bare BODIES` takes the work from BENCH_PLAN and BENCH_CUT, reads a JSON object per line
(`warm_s`, `seconds`) and writes one back.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bench.peers.work import make_work, packed
from bench.serving_load import read_bodies


def main() -> int:
    work, bodies = make_work(), read_bodies(Path(sys.argv[1]))
    packed(work(bodies[0]))
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        begin_s = time.perf_counter() + order["warm_s"]
        cpu_s, latency_ms, index, counted = time.process_time(), [], 0, 0
        while (now_s := time.perf_counter()) < begin_s + order["seconds"]:
            packed(work(bodies[index % len(bodies)]))
            index += 1
            if now_s >= begin_s:
                counted += 1
                latency_ms.append((time.perf_counter() - now_s) * 1e3)
        cpu_ms = (time.process_time() - cpu_s) * 1e3 / index
        report = {"rps": counted / order["seconds"], "latency_ms": latency_ms, "cpu_ms": cpu_ms}
        print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
