"""How truly the link emulator follows its trace → bench/results/link_accuracy.json and .png.

Usage: python bench/link_accuracy.py [--seconds 10] [--traces FILE …] [--out bench/results]

For each link: the relay runs as its own process, one sender saturates it, a sink notes when bytes arrive. Per second
of trace time, "delivered" is what reached the sink and "asked" is what the trace lets arrive in that second
(capacity, one delay and jitter earlier). Trace files default to three under ../shared/traces where those exist; the
downlink logs among them stand in for uplinks. Jitter moves bytes across the border of a second by as much.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace

LAB_SECONDS = 60.0
PRESETS = ("lab-default", "wifi", "lte", "3g", "satellite")
SHARED = Path(__file__).parents[2] / "shared" / "traces"
FILES = ("mahimahi/Verizon-LTE-short.up", "lte4g/bus_0003.json", "norway3g/norway_train_1")
STEADY_CSV = "start_s,rate_mbps,delay_ms\n0,40,10\n"
RELAY = (sys.executable, "-m", "splitmesh.cli.main", "link", "--config", os.devnull)
READY = "ready.json"


class Sink:
    """Accepts one connection and notes (arrival in ns, bytes) of all it receives."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.arrivals: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        peer, _ = self._listener.accept()
        buffer = bytearray(1 << 18)
        with peer:
            while True:
                try:
                    count = peer.recv_into(buffer)
                except ConnectionError:
                    return
                if not count:
                    return
                self.arrivals.append((time.monotonic_ns(), count))

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


def saturate(port: int, stop: threading.Event) -> threading.Thread:
    """A thread that writes as fast as the link takes it."""

    def run() -> None:
        block = bytes(1 << 14)
        with socket.create_connection(("127.0.0.1", port)) as sender:
            sender.settimeout(0.2)
            while not stop.is_set():
                try:
                    sender.send(block)
                except TimeoutError:
                    continue
                except ConnectionError:
                    return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def run_link(link: str, seconds: float) -> dict[str, Any]:
    """Drive `link` for `seconds` of trace time; one row per second and what the relay cost."""
    trace = load_link(link, duration_s=seconds)
    sink = Sink()
    stop = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="bench-link-") as folder,
        started(sink.port, link, seconds, folder) as relay,
    ):
        sender = saturate(port_of(relay, Path(folder) / READY), stop)
        waited_s = time.monotonic()
        while not sink.arrivals and time.monotonic() - waited_s < 3:
            time.sleep(0.01)
        process = psutil.Process(relay.pid)
        before = process.cpu_times()
        relay.send_signal(signal.SIGUSR1)
        begin_ns = time.monotonic_ns()
        time.sleep(seconds + 0.05)
        after = process.cpu_times()
        stop.set()
        relay.send_signal(signal.SIGTERM)
        sender.join(2)
    sink.close()
    cpu_s = after.user - before.user + after.system - before.system
    rows = windows(trace, sink.arrivals, begin_ns, int(seconds))
    return {"link": trace.describe(), "rows": rows, "relay_cpu_share": round(cpu_s / seconds, 4), **verdict(rows)}


def started(target_port: int, link: str, seconds: float, folder: str) -> subprocess.Popen[bytes]:
    command = [*RELAY, "--to", f"127.0.0.1:{target_port}", "--link", link, "--duration", f"{seconds}s"]
    return subprocess.Popen([*command, "--start", "signal", "--ready-json", f"{folder}/{READY}"])


def port_of(relay: subprocess.Popen[bytes], ready: Path) -> int:
    """The relay's port, once it listens. Raises RuntimeError if it ends instead."""
    while not ready.exists():
        if relay.poll() is not None:
            raise RuntimeError(f"the relay ended with {relay.returncode}")
        time.sleep(0.01)
    return int(json.loads(ready.read_text())["port"])


def windows(trace: LinkTrace, arrivals: list[tuple[int, int]], begin_ns: int, seconds: int) -> list[dict[str, Any]]:
    delivered = [0] * seconds
    for at_ns, count in arrivals:
        second = (at_ns - begin_ns) // 10**9
        if 0 <= second < seconds:
            delivered[second] += count
    return [
        {"t_s": t, "asked_bytes": round(trace.landing_bytes(t, t + 1)), "delivered_bytes": delivered[t]}
        for t in range(seconds)
    ]


def verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratio of delivered to asked: overall, and over the seconds in which at least 10 kB were asked.

    Second 0 is left out of the latter: the trace begins while bytes are on their way at the rate of before.
    """
    ratios = [row["delivered_bytes"] / row["asked_bytes"] for row in rows[1:] if row["asked_bytes"] >= 10_000]
    asked = sum(row["asked_bytes"] for row in rows)
    return {
        "ratio_total": round(sum(row["delivered_bytes"] for row in rows) / asked, 4) if asked else None,
        "ratio_median": round(statistics.median(ratios), 4) if ratios else None,
        "ratio_worst": round(min(ratios), 4) if ratios else None,
        "ratio_best": round(max(ratios), 4) if ratios else None,
    }


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 3
    lines = -(-len(results) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 2.5 * lines), squeeze=False)
    for axis in list(axes.flat)[len(results) :]:
        axis.axis("off")
    for axis, (name, result) in zip(axes.flat, results.items(), strict=False):
        seconds = [row["t_s"] + 0.5 for row in result["rows"]]
        axis.step(
            seconds, [row["asked_bytes"] * 8e-6 for row in result["rows"]], where="mid", color="#999", label="asked"
        )
        axis.plot(
            seconds, [row["delivered_bytes"] * 8e-6 for row in result["rows"]], ".", color="#06c", label="delivered"
        )
        axis.set_title(f"{name}: {result['ratio_total']:.1%}, CPU {result['relay_cpu_share']:.0%}", fontsize=9)
        axis.set_ylim(0, 1.1 * max(row["delivered_bytes"] for row in result["rows"]) * 8e-6)
        axis.set_xlabel("s", fontsize=8)
        axis.set_ylabel("Mbit/s", fontsize=8)
    axes.flat[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="length of each run (lab-default: its own 60 s)")
    parser.add_argument("--traces", type=Path, nargs="*", help="trace files to run besides the presets")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    steady = out / "steady-40mbit.csv"
    steady.write_text(STEADY_CSV)
    files = arguments.traces if arguments.traces is not None else [SHARED / name for name in FILES]
    if arguments.traces is None and not SHARED.is_dir():
        print(f"no {SHARED}: presets only")
        files = []
    results: dict[str, dict[str, Any]] = {}
    try:
        for link in (*PRESETS, str(steady), *map(str, files)):
            seconds = LAB_SECONDS if link == "lab-default" else arguments.seconds
            result = results[Path(link).stem] = run_link(link, seconds)
            print(
                f"{Path(link).stem:20} total {result['ratio_total']:.2%}  worst second {result['ratio_worst']:.2%}"
                f"  best {result['ratio_best']:.2%}  relay CPU {result['relay_cpu_share']:.1%}"
            )
    finally:
        steady.unlink()
    (out / "link_accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, out / "link_accuracy.png")


if __name__ == "__main__":
    main()
