"""Fills the tables of the documents that follow from code or from benchmark results, between their markers.

Usage: python tools/doc_tables.py [--check]

`<!-- table:NAME -->` … `<!-- /table -->` in docs/*.md holds table NAME below. A benchmark that was not run has one
line that says so. --check changes nothing and fails if a table is not what it should be.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.telemetry.metrics import CloudMetrics, EdgeMetrics
from splitmesh.wire.messages import NackCode

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
MARKED = re.compile(r"(<!-- table:([a-z-]+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    check = "--check" in arguments
    stale = []
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        wanted = fill(text)
        if wanted != text:
            stale.append(path.name)
            if not check:
                path.write_text(wanted, encoding="utf-8")
    if stale:
        print(f"{'stale, run `make docs`' if check else 'rewritten'}: {', '.join(stale)}")
    return int(check and bool(stale))


def fill(text: str) -> str:
    """`text` with every marked table made anew. Raises KeyError for a table that nobody makes."""
    return MARKED.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}\n{match[3]}", text)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: int = 1) -> str:
    """A table whose first `text_columns` columns are left-aligned, the others right-aligned."""
    rule = ["---" if i < text_columns else "--:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def metrics(kind: type[EdgeMetrics] | type[CloudMetrics] | type[GatewayMetrics] | type[AgentMetrics]) -> str:
    """Every metric of one side, as Prometheus shows it."""
    registry = CollectorRegistry()
    family = kind(registry)
    labels = {metric._name: metric._labelnames for metric in vars(family).values() if hasattr(metric, "_labelnames")}
    rows = []
    for metric in sorted(registry.collect(), key=lambda each: each.name):
        suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
        names = ", ".join(f"`{label}`" for label in labels.get(metric.name, ()))
        rows.append((f"`{metric.name}{suffix}`", metric.type, names or "–", metric.documentation))
    return markdown(("metric", "type", "labels", "meaning"), rows, text_columns=4)


def nacks() -> str:
    comments = _enum_comments((ROOT / "proto/splitmesh/v1/infer.proto").read_text(encoding="utf-8"), "NACK_CODE_")
    rows = [(str(code.value), f"`{code.label}`", comments[code.name]) for code in NackCode]
    return markdown(("code", "name", "meaning"), rows, text_columns=3)


def frame_errors() -> str:
    comments = _enum_comments(
        (ROOT / "proto/splitmesh/v1/gateway.proto").read_text(encoding="utf-8"), "FRAME_ERROR_CODE_"
    )
    return markdown(("code", "meaning"), [(f"`{name}`", text) for name, text in comments.items()], text_columns=2)


def gateway() -> str:
    found = result("gateway")
    if found is None:
        return not_run("bench-gateway")
    ways = {
        "nats": "straight over NATS",
        "analyze": "`Analyze`",
        "infer": "`Infer`",
        "analyze_whole_picture": "`Analyze`, a picture of camera size",
    }
    rows = [
        (ways[way], *(f"{told[key]:.1f}" for key in ("p50_ms", "p95_ms", "beside_p50_ms", "added_p50_ms")))
        for way, told in found["latency"]["ways"].items()
    ]
    head = ("one frame at a time, ms", "p50", "p95", "p50 without the worker's own time", "p50 of that over NATS's")
    s = found["streams"]
    each = ", ".join(f"{count} {outcome}" for outcome, count in sorted(s["outcomes"].items()))
    told = (
        f"{s['streams']} streams at {s['fps']:g} fps for {s['seconds']:g} s, budget {s['budget_ms']:g} ms:",
        f"{s['sent']} sent, {each}, {s['unaccounted']} unaccounted for.",
        f"{s['beyond_budget']} results came later than 50 ms after the budget. The gateway's memory: at most",
        f"{s['rss_second_third_mib']:.0f} MiB in the second third, {s['rss_last_third_mib']:.0f} in the last.",
    )
    return f"{markdown(head, rows)}\n\n{' '.join(told)}"


def _enum_comments(proto: str, prefix: str) -> dict[str, str]:
    """Name without `prefix` → the comment before it."""
    found = re.findall(rf"//\s*(.+)\n\s*{prefix}(\w+) = \d+;", proto)
    return {name: comment for comment, name in found}


def result(name: str) -> Any | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def not_run(target: str) -> str:
    return f"*Not in this checkout: `make {target}` measures it.*"


def codec() -> str:
    report = result("codec_speed")
    if report is None:
        return not_run("bench-codec-speed")
    rows = [
        (
            f"`{row['codec']}`",
            str(row["level"]),
            "×".join(map(str, row["shape"])),
            f"{row['raw_bytes'] / row['payload_bytes']:.1f}",
            f"{row['encode_ms']:.2f}",
            f"{row['decode_ms']:.2f}",
            f"{row['encode_mb_per_s']:.0f}",
            f"{row['decode_mb_per_s']:.0f}",
            "" if row["codec"] == "jpeg" else f"{row['encode_of_first']:.1f}, {row['decode_of_first']:.1f}",
        )
        for row in report["rows"]
    ]
    head = ("codec", "level", "shape", "smaller by ×", "encode ms", "decode ms", "MB/s in", "MB/s out", "× `numpy`")
    return f"{markdown(head, rows)}\n\nPython {report['python']}, {report['machine']}."


def codec_rates() -> str:
    report = result("codec_rates")
    if report is None:
        return not_run("bench-codec")
    from bench.codec_tables import curves, promised

    machine = f"{report['cores']} cores {report['machine']}, Python {report['python']}."
    first, second = markdown(*promised(report), text_columns=2), markdown(*curves(report), text_columns=2)
    return f"{first}\n\n{second}\n\n{machine}"


def codec_moving() -> str:
    report = result("codec_rates")
    if report is None:
        return not_run("bench-codec")
    from bench.codec_tables import moving

    return markdown(*moving(report), text_columns=0)


def shift() -> str:
    report = result("shifted_features")
    if report is None:
        return not_run("bench-shift")
    rows = [(str(row["pixels"]), f"{row['unmoved']:.0%}", f"{row['moved']:.1%}") for row in report["rows"]]
    return markdown(
        ("moved by … pixels", "left, features as they were", "left, features moved as far"), rows, text_columns=0
    )


def track() -> str:
    report = result("track_fidelity")
    if report is None:
        return not_run("bench-track")
    rows = [
        (
            row["clip"],
            str(row["every"]),
            str(row["frames"]),
            f"{statistics.fmean(row['repeated']):.3f}",
            f"**{statistics.fmean(row['tracked']):.3f}**",
            f"{row['predict_us']:.0f}",
        )
        for row in report["rows"]
    ]
    head = ("clip", "every k-th frame seen", "frames", "F1 repeated", "F1 tracked", "µs per prediction")
    ages = report["ages_frames"]
    return f"{markdown(head, rows)}\n\nMeans over answers {ages[0]} to {ages[-1]} frames old."


def link() -> str:
    report = result("link_accuracy")
    if report is None:
        return not_run("bench-link")
    rows = [
        (
            f"`{name}`",
            f"{row['ratio_total']:.4f}",
            f"{row['ratio_median']:.4f}",
            f"{row['ratio_worst']:.3f} … {row['ratio_best']:.3f}",
            f"{100 * row['relay_cpu_share']:.0f} %",
        )
        for name, row in report.items()
        if isinstance(row, dict) and "ratio_total" in row
    ]
    head = ("link", "delivered ÷ asked, whole run", "median second", "worst … best second", "of one core")
    return markdown(head, rows)


def overhead() -> str:
    report = result("overhead")
    if report is None:
        return not_run("bench-overhead")
    rows = []
    for layout, key in (("all cores", "ratio"), ("one core", "ratio_one_core")):
        bare, edge = (statistics.median(r[fps] for r in report["rounds"][layout]) for fps in ("bare_fps", "edge_fps"))
        rows.append((layout, f"{bare:.1f}", f"{edge:.1f}", f"**{report[key]:.3f}**"))
    table = markdown(("both on", "bare loop, frames/s", "edge, frames/s", "ratio"), rows)
    rounds, frames, threads = len(report["rounds"]["all cores"]), report["frames"], report["threads"]
    return f"{table}\n\n{report['model']}; medians of {rounds} rounds of {frames} frames, {threads} model thread(s)."


def telemetry() -> str:
    report = result("telemetry")
    if report is None:
        return not_run("bench-telemetry")
    rows = [
        (name, f"{float(share):.0%}", f"**{cost['lost']:.1%}**", f"{cost['low']:.1%} … {cost['high']:.1%}")
        for name, by_share in report["cost"].items()
        for share, cost in by_share.items()
    ]
    rounds = len(next(iter(report["rounds"].values())))
    table = markdown(("work", "traced", "throughput lost", "95 % interval"), rows)
    return f"{table}\n\n{report['model']}; medians of {rounds} rounds of {report['frames']} frames."


def serving(of: str) -> str:
    """`of`: "systems" for the whole model, "systems_cut" for the tail of a cut."""
    report = result("serving")
    if report is None or of not in report:
        return not_run("bench-serving")
    from bench.serving_report import table

    return markdown(*table(report, of))


def decide() -> str:
    report = result("decide")
    if report is None:
        return not_run("bench-decide")
    rows = [
        (
            str(row["points"]),
            str(row["workers"]),
            row["streams"],
            f"{row['cpu_p50_us']:.0f}",
            f"{row['cpu_p99_us']:.0f}",
            f"{row['p50_yardsticks']:.1f}",
            f"{row['p99_yardsticks']:.1f}",
        )
        for row in report["rows"]
    ]
    head = ("points", "workers", "streams", "p50 µs", "p99 µs", "p50 in yardsticks", "p99 in yardsticks")
    unit = statistics.median(row["yardstick_us"] for row in report["rows"])
    machine = f"Yardstick {unit:.1f} µs; Python {report['python']}, {report['machine']}."
    return f"{markdown(head, rows, text_columns=0)}\n\n{machine}"


def choice() -> str:
    report = result("choice")
    if report is None:
        return not_run("bench-choice")
    from bench.choice import table

    return markdown(*table(report), text_columns=2)


def scheduling(of: str) -> str:
    """`of`: which table of `bench.scheduling_report`."""
    report = result("scheduling")
    if report is None:
        return not_run("bench-scheduling")
    from bench import scheduling_report

    head, rows = getattr(scheduling_report, of)(report)
    return markdown(head, rows, text_columns=1 if of == "costs" else 2)


def policy(of: str) -> str:
    """`of`: which table of `bench.policy_tables`."""
    report = result("recovery" if of == "recovery" else "policy")
    if report is None:
        return not_run("bench-policy")
    from bench import policy_tables

    head, rows = getattr(policy_tables, of)(report)
    return markdown(head, rows, text_columns=2 if of == "recovery" else 1)


def ablations() -> str:
    report = result("ablations")
    if report is None:
        return not_run("bench-ablations")
    from bench.ablations import idle, table

    without_worth = ", ".join(f"*{part}*" for part in idle(report)) or "none"
    return f"{markdown(*table(report), text_columns=2)}\n\nClearly worth something in no column: {without_worth}."


def lab() -> str:
    report = result("lab")
    if report is None:
        return not_run("bench-lab")
    from bench.lab import table

    made: str = table(report)
    return made


def simlab() -> str:
    report = result("simlab")
    if report is None:
        return not_run("bench-simlab")
    from bench.simlab_sides import table

    made: str = table(report)
    return made


def chaos() -> str:
    report = result("chaos")
    if report is None:
        return not_run("chaos")
    from bench.chaos.report import table, totals

    return f"{markdown(*table(report))}\n\n{totals(report)}"


def soak() -> str:
    report = result("soak")
    if report is None:
        return not_run("soak")
    from bench.soak_report import table, totals

    return f"{markdown(*table(report))}\n\n{totals(report)}"


def meshload() -> str:
    report = result("meshload")
    if report is None:
        return not_run("bench-meshload")
    from bench.meshload_plot import table

    head, rows = table(report)
    busy = f"load average {report['load_before']:.1f} before, {report['load_after']:.1f} after"
    machine = f"{report['cores']} cores {report['machine']}, Python {report['python']}, {busy}."
    runs = f"Medians of {report['rounds']} runs of {report['seconds']:g} s"
    return f"{markdown(head, rows, text_columns=3)}\n\n{runs}; {machine}"


def meshload_wrk() -> str:
    report = result("meshload_wrk")
    if report is None:
        return not_run("bench-meshload-wrk")
    from bench.meshload_wrk_plot import agreement_table, conditions, throughput_table

    tables = markdown(*throughput_table(report)), markdown(*agreement_table(report))
    return "\n\n".join((*tables, conditions(report)))


def models() -> str:
    report = result("models")
    if report is None:
        return not_run("models-report")
    from tools.models_report import table

    made: str = table(report)
    return made


TABLES: dict[str, Callable[[], str]] = {
    "edge-metrics": lambda: metrics(EdgeMetrics),
    "cloud-metrics": lambda: metrics(CloudMetrics),
    "gateway-metrics": lambda: metrics(GatewayMetrics),
    "agent-metrics": lambda: metrics(AgentMetrics),
    "frame-errors": frame_errors,
    "gateway": gateway,
    "nacks": nacks,
    "codec": codec,
    "codec-rates": codec_rates,
    "codec-moving": codec_moving,
    "shift": shift,
    "track": track,
    "link": link,
    "overhead": overhead,
    "telemetry": telemetry,
    "serving": lambda: serving("systems"),
    "serving-cut": lambda: serving("systems_cut"),
    "decide": decide,
    "choice": choice,
    "scheduling": lambda: scheduling("compared"),
    "scheduling-tenants": lambda: scheduling("attacked"),
    "scheduling-cost": lambda: scheduling("costs"),
    "policy": lambda: policy("leaderboard"),
    "policy-harm": lambda: policy("harm"),
    "policy-recovery": lambda: policy("recovery"),
    "ablations": ablations,
    "lab": lab,
    "simlab": simlab,
    "meshload": meshload,
    "meshload-wrk": meshload_wrk,
    "models": models,
    "chaos": chaos,
    "soak": soak,
}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main(sys.argv[1:]))
