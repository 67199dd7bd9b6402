"""Owns the text formats of link traces: mahimahi, sabre, pensieve, CSV and TOML schedules. Pure; reads no file."""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Iterable
from typing import Any, Final

from splitmesh.errors import SettingsError
from splitmesh.provision.link.trace import DEFAULT_DELAY_MS, DEFAULT_DOWN_BPS, LinkTrace, Step
from splitmesh.settings.units import Outage, parse_bps

OPPORTUNITY_BYTES: Final = 1500
_MS: Final = 1e-3
_RATES: Final = {"rate_bps": 1.0, "rate_kbps": 1e3, "rate_mbps": 1e6}
FORMATS: Final = "mahimahi .up, sabre .json, pensieve two columns, .csv or .toml schedule"


def parse_trace(text: str, *, name: str) -> LinkTrace:
    """Recognise the format of `text` and read it. `name` (a file's name) goes into the trace and into errors.

    Raises SettingsError (key "link") that names the line and the rule.
    """
    head = text.lstrip()
    if not head:
        raise _wrong(name, "is empty")
    if name.endswith(".toml"):
        return parse_schedule_toml(text, name=name)
    if name.endswith(".json") or head[0] in "[{":
        return parse_sabre(text, name=name)
    first = head.splitlines()[0]
    if "," in first or name.endswith(".csv"):
        return parse_schedule_csv(text, name=name)
    columns = len(first.split())
    if columns == 1:
        return parse_mahimahi(text, name=name)
    if columns == 2:
        return parse_pensieve(text, name=name)
    raise _wrong(name, "is in no format known here", advice=f"known: {FORMATS}")


def parse_mahimahi(text: str, *, name: str) -> LinkTrace:
    """One line per opportunity to deliver 1500 bytes: the millisecond at which it comes. Loops."""
    counts: dict[int, int] = {}
    latest = 0
    for number, line in _lines(text):
        try:
            at_ms = int(line)
        except ValueError:
            raise _wrong(name, f"line {number}: {line!r} is not a whole number of milliseconds") from None
        if at_ms < latest:
            raise _wrong(name, f"line {number}: {at_ms} ms comes after {latest} ms")
        latest = at_ms
        counts[at_ms] = counts.get(at_ms, 0) + 1
    if latest == 0:
        raise _wrong(name, "must last longer than 0 ms")
    # As in mahimahi, the last opportunity falls together with millisecond 0 of the next lap.
    counts[0] = counts.get(0, 0) + counts.pop(latest)
    steps: list[Step] = []
    for at_ms in sorted({0, *counts, *(at + 1 for at in counts)}):
        if at_ms >= latest:
            break
        rate = counts.get(at_ms, 0) * OPPORTUNITY_BYTES * 8 / _MS
        if not steps or steps[-1].rate_bps != rate:
            steps.append(Step(at_ms * _MS, rate))
    return LinkTrace(name, tuple(steps), latest * _MS, note=f"mahimahi, delay {DEFAULT_DELAY_MS:g} ms assumed")


def parse_sabre(text: str, *, name: str) -> LinkTrace:
    """JSON list of {duration_ms, bandwidth_kbps, latency_ms}; half the latency is the one-way delay. Loops."""
    try:
        rows = json.loads(text)
    except ValueError as exc:
        raise _wrong(name, f"is not valid JSON: {exc}") from None
    if not isinstance(rows, list) or not rows:
        raise _wrong(name, "must be a JSON list of {duration_ms, bandwidth_kbps, latency_ms}")
    steps: list[Step] = []
    t = 0.0
    for number, row in enumerate(rows, 1):
        duration, rate, delay = (
            _number(row, key, name=name, where=f"entry {number}")
            for key in ("duration_ms", "bandwidth_kbps", "latency_ms")
        )
        if duration > 0:
            steps.append(Step(t, rate * 1e3, delay / 2))
            t += duration * _MS
    return LinkTrace(name, tuple(steps), t, note="sabre; a downlink log stands in for the uplink")


def parse_pensieve(text: str, *, name: str) -> LinkTrace:
    """Two columns: seconds, Mbit/s; each rate holds until the next line. Loops."""
    points: list[tuple[float, float]] = []
    for number, line in _lines(text):
        try:
            t, mbps = (float(column) for column in line.split())
        except ValueError:
            raise _wrong(name, f"line {number}: {line!r} is not two numbers (seconds, Mbit/s)") from None
        if points and not t > points[-1][0]:
            raise _wrong(name, f"line {number}: {t:g} s does not come after {points[-1][0]:g} s")
        points.append((t, mbps))
    if len(points) < 2:
        raise _wrong(name, "needs at least two lines")
    start, end = points[0][0], points[-1][0]
    steps = tuple(Step(t - start, mbps * 1e6) for t, mbps in points)
    last_s = (end - start) / (len(points) - 1)  # the last line says no length: it gets the mean one
    note = f"pensieve; a downlink log stands in for the uplink, delay {DEFAULT_DELAY_MS:g} ms assumed"
    return LinkTrace(name, steps, end - start + last_s, note=note)


def parse_schedule_csv(text: str, *, name: str) -> LinkTrace:
    """Header `start_s,rate_bps|rate_kbps|rate_mbps[,delay_ms][,jitter_ms]`, then one line per step. Does not loop."""
    return _schedule(csv.DictReader(text.splitlines(), skipinitialspace=True), {}, name=name, where="data line")


def parse_schedule_toml(text: str, *, name: str) -> LinkTrace:
    """`[[step]]` tables (start_s, rate = "2Mbit" or rate_bps|…, delay_ms, jitter_ms), `[[outage]]` tables (start_s,
    length_s, cut), and `length_s`, `loop`, `down_bps` at the top. Does not loop unless told to."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _wrong(name, f"is not valid TOML: {exc}") from None
    unknown = table.keys() - {"step", "outage", "length_s", "loop", "down_bps"}
    if unknown:
        raise _wrong(name, f"has unknown keys: {', '.join(sorted(unknown))}")
    return _schedule(table.get("step", []), table, name=name, where="step")


def _schedule(rows: Iterable[dict[str, Any]], top: dict[str, Any], *, name: str, where: str) -> LinkTrace:
    steps: list[Step] = []
    for number, row in enumerate(rows, 1):
        place = f"{where} {number}"
        unknown = row.keys() - {"start_s", "rate", *_RATES, "delay_ms", "jitter_ms"}
        if unknown or None in row:
            raise _wrong(name, f"{place} has unknown columns: {', '.join(map(str, unknown))}")
        steps.append(
            Step(
                _number(row, "start_s", name=name, where=place),
                _rate(row, name=name, where=place),
                _number(row, "delay_ms", name=name, where=place, default=DEFAULT_DELAY_MS),
                _number(row, "jitter_ms", name=name, where=place, default=0.0),
            )
        )
    if not steps:
        raise _wrong(name, "has no steps")
    loop = top.get("loop", False)
    if not isinstance(loop, bool):
        raise _wrong(name, "loop must be true or false")
    spacing = steps[-1].start_s / (len(steps) - 1) if len(steps) > 1 else 60.0
    length = _number(top, "length_s", name=name, where="file", default=steps[-1].start_s + spacing)
    down = _number(top, "down_bps", name=name, where="file", default=DEFAULT_DOWN_BPS)
    outages = [
        Outage(
            _number(row, "start_s", name=name, where=f"outage {number}"),
            _number(row, "length_s", name=name, where=f"outage {number}"),
            bool(row.get("cut", False)),
        )
        for number, row in enumerate(top.get("outage", []), 1)
    ]
    return LinkTrace(name, tuple(steps), length, loop=loop, outages=tuple(outages), down_bps=down)


def _rate(row: dict[str, Any], *, name: str, where: str) -> float:
    given = [key for key in ("rate", *_RATES) if row.get(key) not in (None, "")]
    if len(given) != 1:
        raise _wrong(name, f"{where} needs exactly one of rate, {', '.join(_RATES)}")
    key = given[0]
    if key != "rate":
        return _number(row, key, name=name, where=where) * _RATES[key]
    try:
        return parse_bps(row["rate"])
    except ValueError as exc:
        raise _wrong(name, f"{where}: rate {exc}") from None


def _number(row: Any, key: str, *, name: str, where: str, default: float | None = None) -> float:
    value = row.get(key) if isinstance(row, dict) else None
    if value in (None, "") and default is not None:
        return default
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise _wrong(name, f"{where}: {key} must be a number from 0, not {value!r}")
    return number


def _lines(text: str) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()


def _wrong(name: str, rule: str, *, advice: str = "") -> SettingsError:
    return SettingsError(f"link trace {name} {rule}", key="link", advice=advice)
