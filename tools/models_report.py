"""Owns the report on how `splitmesh plan` does on real models: bench/results/models.json and the table made of it.

Usage: python -m tools.models_report [--only NAME]… [--again] [--limit-s N]

Each model is planned by the real command, unattended and without a manifest (built-in models bring theirs), on the
built-in clip or on the one of ../shared/media that the list names. A model that is in the JSON already is not planned
again unless --again or --only says so; the JSON is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.zoo import ROOT, SHARED, Subject, made_bytes, provide, size_bytes, subjects

from splitmesh.errors import MeshError
from splitmesh.models.registry import default_clip
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.bundle.schema import RateRow

RESULT = ROOT / "bench" / "results" / "models.json"
WORK = ROOT / "out" / "models-report"
FIDELITY = 0.98
MEMORY_FACTOR, MEMORY_BASE = 3, 1_000_000_000
"""Peak memory allowed: so many times the model's size, weights that its graph makes included, plus so many bytes."""

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this model (repeatable)")
    parser.add_argument("--again", action="store_true", help="plan models anew that the report holds already")
    parser.add_argument("--limit-s", type=float, default=900.0, help="seconds per model (default %(default)s)")
    parser.add_argument("--keep", action="store_true", help=f"leave the plans in {WORK.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    chosen = subjects()
    unknown = set(options.only) - {s.name for s in chosen}
    if unknown:
        parser.error(f"no model {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in chosen)}")
    report = _read()
    for subject in chosen:
        if options.only and subject.name not in options.only:
            continue
        if subject.name in report and not (options.only or options.again):
            continue
        print(f"{subject.name} …", end=" ", flush=True)
        report[subject.name] = plan(subject, limit_s=options.limit_s, work=WORK)
        if not options.keep:
            shutil.rmtree(WORK / f"{subject.name}.plan", ignore_errors=True)
        print(one_line(report[subject.name]), flush=True)
        _write([report[s.name] for s in chosen if s.name in report])
    return int(any(row["status"] != "planned" for row in report.values()))


def plan(subject: Subject, *, limit_s: float, work: Path) -> Row:
    """Run the command on one model and say how it went. Never raises for what the command does."""
    row: Row = {"name": subject.name, "family": subject.family, "source": subject.source, "licence": subject.licence}
    row["notes"] = subject.notes
    try:
        given = provide(subject)
        clip = footage(subject)
    except MeshError as exc:
        return row | {"status": "absent", "error": str(exc)}
    row["size_bytes"] = size_bytes(given)
    row["made_bytes"] = made_bytes(given)
    row["footage"] = clip.name
    folder, told = work / f"{subject.name}.plan", work / f"{subject.name}.json"
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    told.unlink(missing_ok=True)
    command = [sys.executable, "-m", "splitmesh.cli.main", "plan", given, "--video", str(clip)]
    command += ["-o", str(folder), "--json", str(told)]
    status, seconds, peak = run_measured(command, work / f"{subject.name}.log", limit_s)
    said = _last_words((work / f"{subject.name}.log").read_text(encoding="utf-8", errors="replace"))
    row |= {"seconds": round(seconds, 1), "peak_rss_bytes": peak}
    row["allowed_rss_bytes"] = MEMORY_FACTOR * (row["size_bytes"] + row["made_bytes"]) + MEMORY_BASE
    if status is None:
        return row | {"status": "timeout", "error": f"not done after {limit_s:.0f} s"}
    if status != 0:
        return row | {"status": "failed", "error": said}
    row["status"] = "planned"
    return row | figures(read_bundle(folder), json.loads(told.read_text(encoding="utf-8")))


LAUNCHER = """
import os, sys
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
os.write(int(sys.argv[1]), f"{os.waitstatus_to_exitcode(status)} {used.ru_maxrss}".encode())
"""
"""The kernel's figure for a process starts from what the one that starts it holds, so a small one must start it."""


def run_measured(command: Sequence[str], log: Path, limit_s: float) -> tuple[int | None, float, int]:
    """Exit status (None: stopped at the limit), seconds, and peak resident bytes of the process or of its largest
    child (0 when stopped). Both of its outputs go to `log`."""
    told, tell = os.pipe()
    with log.open("wb") as sink, os.fdopen(told, "rb") as answer:
        started = time.monotonic()
        try:
            launcher = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LAUNCHER, str(tell), *command], pass_fds=(tell,), cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
                env=os.environ | {"COLUMNS": "118"},
            )  # fmt: skip
        finally:
            os.close(tell)
        try:
            launcher.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None, time.monotonic() - started, 0
        finally:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
                launcher.wait()
        seconds = time.monotonic() - started
        status, peak = map(int, answer.read().split())
    return status, seconds, peak * (1 if sys.platform == "darwin" else 1024)


def footage(subject: Subject) -> Path:
    """The clip to calibrate on. Raises ModelError when not even the built-in one can be had."""
    wished = SHARED / "media" / subject.footage
    return wished if subject.footage and wished.is_file() else default_clip()


def figures(bundle: Bundle, told: Mapping[str, Any]) -> Row:
    """What the table shows, from a plan's folder and from the command's --json."""
    found, cuts = bundle.plan, told["cuts"]
    return {
        "kind": bundle.manifest.postprocess.kind,
        "nodes": found.nodes,
        "frontiers": found.frontiers,
        "cuts": [cut["id"] for cut in cuts],
        "parity_max_rel": max((cut["parity_max_rel"] for cut in cuts), default=None),
        "batchable": found.batchable,
        "batchable_cuts": sum(bool(cut["batchable"]) for cut in cuts),
        "split": _cheapest(r for r in found.rows if r.cut),
        "picture": _cheapest(r for r in found.rows if not r.cut and r.codec),
        "points": len(told["operating_points"]),
        "said": list(found.notes),
    }


def _cheapest(rows: Iterable[RateRow]) -> Row | None:
    """Fewest bytes among rows of at least the fidelity asked for; None if there is none."""
    good = [row for row in rows if row.fidelity >= FIDELITY]
    if not good:
        return None
    best = min(good, key=lambda row: (row.bytes_mean, row.point))
    return {"point": best.point, "bytes_mean": best.bytes_mean, "fidelity": best.fidelity}


def _last_words(log: str) -> str:
    """The error that a run ended with, in one line, without colours."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log).replace("\r", "\n")
    lines = [line.strip(" │╭╰─╮╯") for line in plain.splitlines()]
    lines = [line for line in lines if line]
    start = max((i for i, line in enumerate(lines) if line.lower().startswith("error")), default=len(lines) - 6)
    words = " ".join(lines[max(start, 0) :])
    return f"Traceback … {lines[-1]}" if "Traceback (most recent call last)" in plain else words[:600]


def one_line(row: Row) -> str:
    if row["status"] != "planned":
        return f"{row['status']}: {row['error']}"
    best = row["split"]["bytes_mean"] if row["split"] else float("nan")
    picture = row["picture"]["bytes_mean"] if row["picture"] else float("nan")
    return (
        f"{len(row['cuts'])} cuts of {row['frontiers']} frontiers, {best:.0f} B, as a picture {picture:.0f} B, "
        f"{row['seconds']:.0f} s, {row['peak_rss_bytes'] / 1e6:.0f} of {row['allowed_rss_bytes'] / 1e6:.0f} MB"
    )


def table(report: Mapping[str, Any]) -> str:
    """The report as markdown: how each model did, then where each comes from."""
    head = "| model | family | read as | MB | nodes | frontiers | kept cuts | parity | batches "
    head += "| kB, features | kB, picture | s | peak MB |"
    rule = "|---|---|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|"
    text = "\n".join([head, rule, *(_table_row(row) for row in report["models"])])
    text += "\n\n| model | from | licence |\n|---|---|---|\n"
    text += "\n".join(f"| `{r['name']}` | {r['source']} | {r['licence']} |" for r in report["models"])
    return f"{text}\n\n{report['machine']}, onnxruntime {report['onnxruntime']}."


def _table_row(row: Row) -> str:
    first = f"| `{row['name']}` | {_cell(row['family'])} | "
    if row["status"] != "planned":
        size = f"{row['size_bytes'] / 1e6:.1f}" if "size_bytes" in row else "–"
        return f"{first}– | {size} | **{row['status']}**: {_cell(row['error'])} |" + " |" * 8
    peak = f"{row['peak_rss_bytes'] / 1e6:.0f}"
    parity = "–" if row["parity_max_rel"] is None else f"{row['parity_max_rel']:.0e}"
    cells = (
        row["kind"],
        f"{row['size_bytes'] / 1e6:.1f}" + (f" + {row['made_bytes'] / 1e6:.0f}" if row["made_bytes"] else ""),
        str(row["nodes"]),
        str(row["frontiers"]),
        str(len(row["cuts"])),
        parity,
        _batches(row),
        _kilobytes(row["split"]),
        _kilobytes(row["picture"]),
        f"{row['seconds']:.0f}",
        f"**{peak}**" if row["peak_rss_bytes"] > row["allowed_rss_bytes"] else peak,
    )
    return f"{first}{' | '.join(cells)} |"


def _batches(row: Row) -> str:
    if not row["cuts"]:
        return "whole" if row["batchable"] else "no"
    if row["batchable"] and row["batchable_cuts"] == len(row["cuts"]):
        return "all"
    return f"{row['batchable_cuts']} cuts" if row["batchable_cuts"] else "no"


def _kilobytes(row: Row | None) -> str:
    return f"{row['bytes_mean'] / 1e3:.1f}" if row else "–"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:300]


def _read() -> dict[str, Row]:
    if not RESULT.is_file():
        return {}
    return {row["name"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))["models"]}


def _write(rows: Sequence[Row]) -> None:
    import onnxruntime

    report = {
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "onnxruntime": onnxruntime.__version__,
        "fidelity": FIDELITY,
        "models": list(rows),
    }
    scratch = RESULT.with_suffix(".json.new")
    scratch.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    scratch.replace(RESULT)


if __name__ == "__main__":
    sys.exit(main())
