"""Owns how people write quantities ("150ms", "2MB", "2Mbit", "5s@20s") and how they are read. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_NUMBER_UNIT = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-zµ/]*)\s*")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 10**3, "m": 10**6, "g": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "bps": 1.0, "kbps": 1e3, "mbps": 1e6, "gbps": 1e9}
_WATTS = {"": 1.0, "w": 1.0, "mw": 1e-3}
_OUTAGE_RULE = 'must be LENGTH@START like "5s@20s", "/cut" behind it to reset connections too; several with commas'


@dataclass(frozen=True, order=True, slots=True)
class Outage:
    """The link carries nothing, either way, for `length_s` from `start_s`; `cut`: connections are reset as well."""

    start_s: float
    length_s: float
    cut: bool = False

    @property
    def end_s(self) -> float:
        return self.start_s + self.length_s

    def __str__(self) -> str:
        return f"{self.length_s:g}s@{self.start_s:g}s{'/cut' if self.cut else ''}"


def parse_seconds(value: object, *, bare: str = "s") -> float:
    """Seconds from "150ms", "5s", "2m", "1h30m" or a number in the unit `bare`. Raises ValueError."""
    rule = f'must be a duration like "150ms", "5s" or "2m" (a bare number is in {bare})'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value) * _SECONDS[bare], rule)
    if not isinstance(value, str):
        raise ValueError(rule)
    text = value.strip()
    parts = re.findall(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?\s*[A-Za-zµ]*", text)
    if not parts or "".join(parts).replace(" ", "") != text.replace(" ", ""):
        raise ValueError(rule)
    total = 0.0
    for part in parts:
        number, unit = _split(part, rule)
        if (not unit and len(parts) > 1) or (unit and unit not in _SECONDS):
            raise ValueError(rule)
        total += number * _SECONDS[unit or bare]
    return _finite(total, rule)


def parse_watts(value: object) -> float:
    """Watts from "6W", "500mW" or a number. Raises ValueError."""
    rule = 'must be a power like "6W", "500mW" or a number of watts'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), rule)
    number, unit = _split(value, rule)
    if unit.lower() not in _WATTS:
        raise ValueError(rule)
    return _finite(number * _WATTS[unit.lower()], rule)


def parse_bytes(value: object) -> int:
    """Bytes from "2MB" (10^6), "2MiB" (2^20), "512" or a number. Raises ValueError."""
    rule = 'must be a size like "2MB", "512KiB" or a number of bytes'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(_finite(float(value), rule))
    number, unit = _split(value, rule)
    if unit and unit.lower() not in _BYTES:
        raise ValueError(rule)
    return round(_finite(number * _BYTES[unit.lower() or "b"], rule))


def parse_bps(value: object) -> float:
    """Bits per second from "2Mbit", "2Mbit/s", "300kbps" or a number. Raises ValueError."""
    rule = 'must be a rate like "2Mbit", "300kbit/s" or a number of bits per second'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(float(value), rule)
    number, unit = _split(value, rule)
    name = unit.lower().removesuffix("/s")
    if name and name not in _BITS:
        raise ValueError(rule)
    return _finite(number * _BITS[name or "bit"], rule)


def parse_outages(value: object) -> tuple[Outage, ...]:
    """Outages from "5s@20s,2s@40s/cut": 5 s from second 20, and 2 s from second 40 that reset connections too.

    Also takes one Outage, or a sequence of both kinds. Raises ValueError.
    """
    if isinstance(value, Outage):
        return (value,)
    if isinstance(value, str):
        return tuple(_outage(part.strip()) for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)):
        return tuple(outage for item in value for outage in parse_outages(item))
    raise ValueError(_OUTAGE_RULE)


def _outage(text: str) -> Outage:
    window, slash, kind = text.partition("/")
    length, at, start = window.partition("@")
    if not at or (slash and kind.strip() != "cut"):
        raise ValueError(_OUTAGE_RULE)
    try:
        outage = Outage(parse_seconds(start), parse_seconds(length), bool(slash))
    except ValueError as exc:
        raise ValueError(_OUTAGE_RULE) from exc
    if outage.length_s <= 0:
        raise ValueError(_OUTAGE_RULE)
    return outage


def parse_cpus(value: object) -> tuple[int, ...]:
    """CPU numbers from 0, "0,2" or "1-3", ascending; "" is none. Raises ValueError."""
    rule = 'must be CPU numbers like "0", "0,2" or "1-3"'
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, (list, tuple)):
        value = ",".join(str(item) for item in value)
    if not isinstance(value, str):
        raise ValueError(rule)
    found: set[int] = set()
    for part in filter(None, (p.strip() for p in value.split(","))):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise ValueError(rule)
        first = int(match[1])
        found.update(range(first, int(match[2] or first) + 1))
    return tuple(sorted(found))


def parse_names(value: object) -> object:
    """A tuple from "a,b"; other values are left for the type to judge."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def parse_port(value: object) -> object:
    """None from "off"; other values are left for the type to judge."""
    return None if isinstance(value, str) and value.strip().lower() in ("off", "none") else value


def split_host_port(text: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT" or "[IPV6]:PORT". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be HOST:PORT")
    return host, int(port)


def _split(value: object, rule: str) -> tuple[float, str]:
    match = _NUMBER_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(rule)
    return float(match[1]), match[2]


def _finite(number: float, rule: str) -> float:
    if not math.isfinite(number) or number < 0:
        raise ValueError(rule)
    return number
