"""How the choice of a worker does on pools of equal and unequal workers → bench/results/choice.json, choice.png.

Simulated, on the production code of choice, ejection and queue: edges send requests at random moments (Poisson) to
four workers, which tell their predicted wait with each reply and five times a second. A message takes `PATH_MS` each
way.
Every request must be answered within `DEADLINE_MS`. The pool is loaded to a share of what it can serve.

Policies: `random` and `round robin` among workers that were heard of late; `queue group`, any that still listens, one
that hangs among them, as NATS does it; `least told` wait; `two choices` without credits, with them, and with ejection
on top, which is what an edge runs.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splitmesh.schedule.choice import CREDITS, SILENT_NS, WorkerChoice
from splitmesh.schedule.ejection import Ejection
from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.service_time import ServiceTime
from splitmesh.sim.engine import Engine

MS = 1_000_000
EDGES, WORKERS = 24, 4
SERVICE_MS, SPREAD = 10.0, 0.2
"""Of a worker of speed 1: median, and standard deviation of its logarithm."""
PATH_MS, BEAT_MS, DEADLINE_MS = 10.0, 200.0, 100.0
DURATION_S, WARM_S = 16.0, 2.0
LOADS = (0.6, 0.85)
STALL_S = (6.0, 11.0)
POLICIES = ("random", "round robin", "queue group", "least told", "two choices", "+ credits", "+ ejection")


@dataclass(frozen=True)
class PoolCase:
    """speeds: of each worker. stalls: the last one hangs in `STALL_S`: it takes requests and says nothing."""

    name: str
    speeds: tuple[float, ...]
    stalls: bool = False


CASES = (
    PoolCase("1:1:1:1", (1.0, 1.0, 1.0, 1.0)),
    PoolCase("4:2:1:1", (4.0, 2.0, 1.0, 1.0)),
    PoolCase("one 10 × slower", (1.0, 1.0, 1.0, 0.1)),
    PoolCase("one hangs for 5 s", (1.0, 1.0, 1.0, 1.0), stalls=True),
)


@dataclass(eq=False)
class Asked:
    """One request; times in virtual ns."""

    key: str
    edge: int
    sent_ns: int
    work_ms: float
    """At speed 1."""
    worker: int = -1
    ended_ns: int | None = None
    answered: bool = False


class Server:
    """A worker: the production queue around service times that are drawn beforehand."""

    def __init__(self, number: int, engine: Engine, speed: float, reply: Callable[[int, Asked, bool, float], None]):
        self.number = number
        self.hangs = False
        self.busy_ns = 0
        self._engine = engine
        self._speed = speed
        self._reply = reply
        self._queue: FairQueue[Asked] = FairQueue(64)
        self._taken = ServiceTime(round(SERVICE_MS / speed * MS))
        self._held: list[Callable[[], None]] = []

    @property
    def wait_ms(self) -> float:
        return self._queue.predicted_wait_ns(self._engine.now_ns) / MS

    def take(self, asked: Asked) -> None:
        if self.hangs:
            self._held.append(partial(self.take, asked))
            return
        now_ns = self._engine.now_ns
        refusal = self._queue.push(
            asked.key,
            asked,
            deadline_ns=asked.sent_ns + round((DEADLINE_MS - PATH_MS) * MS),
            cost_ns=self._taken.mean_ns(now_ns),
            slack_ns=self._taken.slack_ns(now_ns),
            now_ns=now_ns,
        )
        if refusal is not None:
            self._reply(self.number, asked, False, 0.0)
        self._pump()

    def wake(self) -> None:
        self.hangs = False
        held, self._held = self._held, []
        for act in held:
            act()
        self._pump()

    def _pump(self) -> None:
        asked, expired = self._queue.pop(self._engine.now_ns)
        for late in expired:
            self._reply(self.number, late, False, 0.0)
        if asked is not None:
            took_ns = round(asked.work_ms / self._speed * MS)
            self._engine.at(self._engine.now_ns + took_ns, partial(self._done, asked, took_ns))

    def _done(self, asked: Asked, took_ns: int) -> None:
        if self.hangs:
            self._held.append(partial(self._done, asked, took_ns))
            return
        self.busy_ns += took_ns
        self._taken.observe(took_ns, self._engine.now_ns)
        self._queue.done(asked.key)
        self._reply(self.number, asked, True, took_ns / MS)
        self._pump()


@dataclass
class View:
    """What one edge knows, and how it chooses. `policy`: one of `POLICIES`."""

    policy: str
    lots: np.random.Generator
    told: dict[int, tuple[float, int]] = field(default_factory=dict)
    turn: int = 0

    def __post_init__(self) -> None:
        ejection: Ejection[int] | None = Ejection() if self.policy == "+ ejection" else None
        credits = 10**9 if self.policy == "two choices" else CREDITS
        self.choice = WorkerChoice(credits=credits, ejection=ejection)

    def tell(self, worker: int, wait_ms: float, now_ns: int) -> None:
        self.told[worker] = (wait_ms, now_ns)
        self.choice.told(worker, wait_ms, now_ns, path_ms=2 * PATH_MS)

    def pick(self, now_ns: int) -> int:
        draw = float(self.lots.random())
        live = [worker for worker, (_, at_ns) in sorted(self.told.items()) if now_ns - at_ns <= SILENT_NS]
        if self.policy == "queue group" or not live:
            return int(draw * WORKERS)
        if self.policy == "random":
            return live[int(draw * len(live))]
        if self.policy == "round robin":
            self.turn += 1
            return live[self.turn % len(live)]
        if self.policy == "least told":
            return min(live, key=lambda worker: self.told[worker][0])
        found = self.choice.pick(SERVICE_MS, now_ns=now_ns, draw=draw)
        return int(draw * WORKERS) if found is None else found.worker


class Run:
    """One policy on one pool at one load."""

    def __init__(self, case: PoolCase, policy: str, load: float, seed: int) -> None:
        self.engine = Engine()
        self.servers = [Server(n, self.engine, speed, self._reply) for n, speed in enumerate(case.speeds)]
        self.views = [View(policy, np.random.Generator(np.random.PCG64([seed, 1, n]))) for n in range(EDGES)]
        self.asked: list[Asked] = []
        self._beats()
        self._arrivals(case, load, seed)
        if case.stalls:
            self.engine.at(round(STALL_S[0] * 1e9), lambda: setattr(self.servers[-1], "hangs", True))
            self.engine.at(round(STALL_S[1] * 1e9), self.servers[-1].wake)
        self.engine.run(round((DURATION_S + 2) * 1e9))

    def _arrivals(self, case: PoolCase, load: float, seed: int) -> None:
        """The same moments and work for every policy."""
        random = np.random.Generator(np.random.PCG64([seed, 0]))
        mean_ms = SERVICE_MS * math.exp(SPREAD**2 / 2)
        rate_hz = load * sum(case.speeds) * 1000 / mean_ms
        at_s = 0.0
        for number in range(random.poisson(rate_hz * DURATION_S)):
            at_s += float(random.exponential(1 / rate_hz))
            edge, work_ms = int(random.integers(EDGES)), SERVICE_MS * math.exp(SPREAD * float(random.normal()))
            asked = Asked(str(number), edge, round(at_s * 1e9), work_ms)
            self.engine.at(asked.sent_ns, partial(self._send, asked))

    def _beats(self) -> None:
        for server in self.servers:
            if not server.hangs:
                for view in self.views:
                    tell = partial(view.tell, server.number, server.wait_ms)
                    self.engine.at(self.engine.now_ns + round(PATH_MS * MS), partial(self._now, tell))
        self.engine.at(self.engine.now_ns + round(BEAT_MS * MS), self._beats)

    def _now(self, tell: Callable[[int], None]) -> None:
        tell(self.engine.now_ns)

    def _send(self, asked: Asked) -> None:
        now_ns, view = self.engine.now_ns, self.views[asked.edge]
        asked.worker = view.pick(now_ns)
        view.choice.sent(asked.worker, asked.key, SERVICE_MS, now_ns)
        self.asked.append(asked)
        self.engine.at(now_ns + round(PATH_MS * MS), partial(self.servers[asked.worker].take, asked))
        self.engine.at(now_ns + round(DEADLINE_MS * MS), partial(self._passed, asked))

    def _passed(self, asked: Asked) -> None:
        if asked.ended_ns is None:
            self.views[asked.edge].choice.overdue(asked.worker, asked.key, self.engine.now_ns)

    def _reply(self, worker: int, asked: Asked, answered: bool, took_ms: float) -> None:
        wait_ms = self.servers[worker].wait_ms
        received = partial(self._received, worker, asked, answered, took_ms, wait_ms)
        self.engine.at(self.engine.now_ns + round(PATH_MS * MS), received)

    def _received(self, worker: int, asked: Asked, answered: bool, took_ms: float, wait_ms: float) -> None:
        now_ns, view = self.engine.now_ns, self.views[asked.edge]
        asked.ended_ns, asked.answered = now_ns, answered
        view.tell(worker, wait_ms, now_ns)
        if answered:
            slowness = (now_ns - asked.sent_ns) / MS / (2 * PATH_MS + SERVICE_MS)
            view.choice.answered(worker, asked.key, measured_ms=took_ms, slowness=slowness, now_ns=now_ns)
        else:
            view.choice.refused(worker, asked.key, budget_ms=DEADLINE_MS - 2 * PATH_MS, now_ns=now_ns)

    def figures(self) -> dict[str, Any]:
        """Without the first seconds. What was refused or hangs counts as taking for ever."""
        counted = [each for each in self.asked if each.sent_ns >= WARM_S * 1e9]
        times_ms = np.array(
            [(e.ended_ns - e.sent_ns) / MS if e.answered and e.ended_ns else math.inf for e in counted]
        )
        p50, p95, p99 = np.percentile(times_ms, (50, 95, 99), method="lower").tolist()
        shares = np.bincount([each.worker for each in counted], minlength=WORKERS) / len(counted)
        return {
            "requests": len(counted),
            "hit": float((times_ms <= DEADLINE_MS).mean()),
            "p50_ms": _finite(p50),
            "p95_ms": _finite(p95),
            "p99_ms": _finite(p99),
            "shares": [round(float(share), 3) for share in shares],
            "utilisation": [round(server.busy_ns / (DURATION_S * 1e9), 3) for server in self.servers],
        }


def _finite(value_ms: float) -> float | None:
    return round(value_ms, 1) if value_ms < math.inf else None


def measure(seeds: Sequence[int]) -> Iterable[dict[str, Any]]:
    """A row per pool, load and policy: the middle of the seeds' hit rates and the seed that had it."""
    for case in CASES:
        for load in LOADS:
            for policy in POLICIES:
                runs = sorted((Run(case, policy, load, seed).figures() for seed in seeds), key=lambda run: run["hit"])
                hits = [round(run["hit"], 4) for run in runs]
                yield {"pool": case.name, "load": load, "policy": policy, "hits": hits, **runs[len(runs) // 2]}


def table(report: dict[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """(head, rows) for docs/benchmarks.md."""

    def shown(value_ms: float | None) -> str:
        return "–" if value_ms is None else f"{value_ms:.0f}"

    rows: list[Sequence[str]] = []
    for row in report["rows"]:
        best = max(
            each["hit"] for each in report["rows"] if (each["pool"], each["load"]) == (row["pool"], row["load"])
        )
        hit = f"{100 * row['hit']:.1f}"
        rows.append(
            (
                row["pool"],
                row["policy"],
                f"{row['load']:.2f}",
                f"**{hit}**" if row["hit"] >= best - 0.002 else hit,
                *(shown(row[key]) for key in ("p50_ms", "p95_ms", "p99_ms")),
                " ".join(f"{100 * share:.0f}" for share in row["utilisation"]),
            )
        )
    return ("pool", "policy", "load", "in time %", "p50 ms", "p95 ms", "p99 ms", "busy %, each worker"), rows


def draw_figure(report: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(LOADS), figsize=(11, 4), sharey=True, layout="constrained")
    for axis, load in zip(axes, LOADS, strict=True):
        for place, policy in enumerate(POLICIES):
            hits = [100 * r["hit"] for r in report["rows"] if r["policy"] == policy and r["load"] == load]
            axis.bar(np.arange(len(CASES)) + (place - 3) * 0.12, hits, 0.11, label=policy)
        axis.set_xticks(range(len(CASES)), [case.name for case in CASES], fontsize=8)
        axis.set_title(f"load {load:.0%} of the pool")
    axes[0].set_ylabel(f"answered within {DEADLINE_MS:.0f} ms, %")
    axes[0].legend(fontsize=7, loc="lower left")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows = []
    for row in measure(range(arguments.seeds)):
        rows.append(row)
        print(
            f"{row['pool']:18} {row['load']:.2f} {row['policy']:12} {row['hit']:.4f} {row['utilisation']}", flush=True
        )
    report = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "seeds": arguments.seeds,
        "rows": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "choice.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw_figure(report, arguments.out / "choice.png")


if __name__ == "__main__":
    main()
