"""Owns the figures that are told of a run: from counts to the document that `--json` writes. Pure.

Keys that the world may rely on: asked_rps, achieved_rps, latency_ms{p50,p90,p99,p999,max}, service_ms{…}, hit,
goodput_rps, errors{}, bytes{sent,received}, generator{lag_ms_p99,cpu}. Others may come and go.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshload.errors import LoadError, without_secrets
from meshload.histogram import Histogram
from meshload.outcome import Outcome
from meshload.spec import RunSpec
from meshload.tally import OUTCOMES, Tally
from meshload.verdict import notes

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}


def document_of(spec: RunSpec, outcome: Outcome, *, started: str = "") -> dict[str, Any]:
    """What `--json` writes. `started`: when, for people. `counts` in it is the outcome itself, to be added up.

    Credentials in the URL, and the values of headers, are left out.
    """
    hidden = tuple((name, "…") for name, _ in spec.headers)
    spec = replace(spec, url=without_secrets(spec.url), headers=hidden)
    tally = outcome.tally
    seconds = max(tally.measured_s, 1e-9)
    offered, hit = tally.count("offered"), tally.count("hit")
    figures: dict[str, Any] = {
        "target": spec.url,
        "described": outcome.described,
        "load": spec.describe(),
        "payload": outcome.payload,
        "started": started,
        "duration_s": round(tally.measured_s, 3),
        "warmup_s": spec.warmup_s,
        "deadline_ms": _deadline(spec),
        "asked_rps": spec.asked_rps,
        "kept_rps": tally.count("sent") / seconds,
        "achieved_rps": tally.count("completed") / seconds,
        "goodput_rps": hit / seconds,
        "hit": hit / offered if offered else None,
        "latency_ms": spread_ms(tally.latency),
        "service_ms": spread_ms(tally.service),
        "server_ms": spread_ms(tally.server),
        "requests": {name: tally.count(name) for name in ("offered", *OUTCOMES)},
        "errors": {label: n for kind in ("error", "timeout", "unsent") for label, n in tally.labels[kind].items()},
        "refused": dict(tally.labels["refused"]),
        "bytes": {"sent": tally.count("bytes_sent"), "received": tally.count("bytes_received")},
        "generator": {
            "lag_ms_p50": tally.lag.quantile_ms(0.5),
            "lag_ms_p99": tally.lag.quantile_ms(0.99),
            "cpu": max(outcome.cpus, default=0.0),
            "cpus": outcome.cpus,
            "held": tally.held,
        },
        "tenants": _tenants(tally),
        "timeline": _timeline(tally),
        "interrupted": outcome.interrupted,
        "died": [str(death) for death in outcome.died],
    }
    figures["notes"] = notes(figures, outcome)
    figures["spec"] = spec.to_document()
    figures["counts"] = outcome.to_document()
    return figures


def spread_ms(histogram: Histogram) -> dict[str, float | None]:
    """p50 … p9999, mean and max in ms; None of nothing."""
    found: dict[str, float | None] = {name: histogram.quantile_ms(q) for name, q in QUANTILES.items()}
    return found | {"max": histogram.max_ns / 1e6 if len(histogram) else None, "mean": histogram.mean_ms}


def read(path: Path) -> dict[str, Any]:
    """A document that `--json` wrote. Raises LoadError for any other file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise LoadError(f"{path}: {exc}", advice="name a file that meshload --json wrote") from exc
    if not isinstance(document, dict) or "counts" not in document or "spec" not in document:
        raise LoadError(f"{path} is no result of meshload", advice="name a file that meshload --json wrote")
    return document


def read_outcome(path: Path) -> tuple[RunSpec, Outcome]:
    """The run behind a document that `--json` wrote. Raises LoadError."""
    document = read(path)
    try:
        return RunSpec.from_document(document["spec"]), Outcome.from_document(document["counts"])
    except (LoadError, TypeError) as exc:
        raise LoadError(f"{path}: {exc}") from exc


def _deadline(spec: RunSpec) -> float | list[float] | None:
    low, high = spec.deadline_ms
    return (low if low == high else [low, high]) if high else None


def _tenants(tally: Tally) -> dict[str, Any]:
    if list(tally.tenants) in ([], [""]):
        return {}
    return {
        name: {
            "requests": share.offered,
            "hit": share.hit / share.offered if share.offered else None,
            "p50_ms": share.latency.quantile_ms(0.5),
            "p99_ms": share.latency.quantile_ms(0.99),
        }
        for name, share in sorted(tally.tenants.items())
    }


def _timeline(tally: Tally) -> list[dict[str, Any]]:
    """A row per second: counts, and the latency of what was intended in it."""
    rows = []
    columns = {name: tally.column(name) for name in ("offered", "sent", "completed", "hit", *OUTCOMES)}
    for second in range(min(len(tally.seconds), int(-(-tally.measured_s // 1)))):
        found = tally.second_latency.get(second)
        row: dict[str, Any] = {"second": second} | {name: int(column[second]) for name, column in columns.items()}
        for name, q in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
            row[name] = found.quantile_ms(q) if found else None
        rows.append(row)
    return rows
