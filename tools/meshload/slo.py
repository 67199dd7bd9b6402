"""Owns promises about a run, such as 'p99<120ms,hit>0.99', and whether its figures keep them. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshload.errors import LoadError

_RULE = re.compile(r"\s*([a-z0-9_.]+)\s*(<=|>=|<|>)\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(us|ms|s|%|/s)?\s*")
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TIMES: Final = ("p50", "p90", "p99", "p999", "p9999", "mean", "max")
_TO_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SHARES: Final = ("hit", "ok", "refused", "error", "timeout", "unsent")
_RATES: Final = {"rate": "achieved_rps", "goodput": "goodput_rps", "kept": "kept_rps"}
NAMES: Final = (
    f"{', '.join(_TIMES)} (also service.p99, server.p99), {', '.join(_SHARES)} (shares), {', '.join(_RATES)} (per s)"
)


@dataclass(frozen=True, slots=True)
class Promise:
    """One comparison. `value` is in ms, a share of 1, or per second."""

    name: str
    sign: str
    value: float
    text: str

    def check(self, figures: Mapping[str, Any]) -> Verdict:
        found = _figure(figures, self.name)
        return Verdict(self, found, found is not None and _COMPARE[self.sign](found, self.value))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a promise was kept; of nothing measured none is."""

    promise: Promise
    found: float | None
    kept: bool

    def __str__(self) -> str:
        found = "nothing was measured" if self.found is None else f"{self.found:.4g}{_unit(self.promise.name)}"
        return f"{'kept  ' if self.kept else 'BROKEN'}  {self.promise.text}  ({found})"


def parse_slo(text: str) -> tuple[Promise, ...]:
    """The promises of "p99<120ms,hit>0.99". Times without a unit are ms. Raises LoadError that names it."""
    return tuple(_promise(part) for part in text.split(","))


def check_all(promises: Sequence[Promise], figures: Mapping[str, Any]) -> tuple[Verdict, ...]:
    return tuple(promise.check(figures) for promise in promises)


def _promise(part: str) -> Promise:
    match = _RULE.fullmatch(part)
    if match is None:
        raise LoadError(f"--slo: {part!r} is no promise", advice="write them as 'p99<120ms,hit>0.99'")
    name, sign, number, unit = match.groups()
    kind, _, quantile = name.rpartition(".")
    is_time = quantile in _TIMES and kind in ("", "latency", "service", "server")
    if not is_time and name not in _SHARES and name not in _RATES:
        raise LoadError(f"--slo: {part.strip()!r}: there is no figure {name!r}", advice=f"known: {NAMES}")
    allowed = (*_TO_MS, None) if is_time else ("%", None) if name in _SHARES else ("/s", None)
    if unit not in allowed:
        raise LoadError(f"--slo: {part.strip()!r}: {name} has no unit {unit!r}")
    try:
        value = float(number)
    except ValueError:
        raise LoadError(f"--slo: {part.strip()!r}: {number!r} is no number") from None
    scale = {**_TO_MS, "%": 0.01}.get(unit, 1.0)
    return Promise(name, sign, value * scale, part.strip())


def _figure(figures: Mapping[str, Any], name: str) -> float | None:
    found: float | None
    if name in _RATES:
        found = figures[_RATES[name]]
    elif name == "hit":
        found = figures["hit"]
    elif name in _SHARES:
        requests = figures["requests"]
        found = requests[name] / requests["offered"] if requests["offered"] else None
    else:
        kind, _, quantile = name.rpartition(".")
        found = figures[f"{kind or 'latency'}_ms"][quantile]
    return found


def _unit(name: str) -> str:
    return "/s" if name in _RATES else "" if name in _SHARES else " ms"
