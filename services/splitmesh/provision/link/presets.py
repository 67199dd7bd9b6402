"""Owns the named links and how a name or a file becomes a LinkTrace."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from splitmesh.errors import SettingsError
from splitmesh.provision.link.formats import FORMATS, parse_trace
from splitmesh.provision.link.markov import Process
from splitmesh.provision.link.networks import NETWORKS
from splitmesh.provision.link.trace import LinkTrace, Step
from splitmesh.settings.units import Outage


class _Drawn(Protocol):
    """Makes a link of chance; its seed is its name."""

    def __call__(self, duration_s: float, seed: str) -> LinkTrace: ...


_LAB_LENGTH_S: Final = 60.0
_ALIASES: Final = {"lab": "lab-default"}
_MAX_FILE_BYTES: Final = 64 << 20


def load_link(name_or_path: str, *, duration_s: float = 60.0, outages: Sequence[Outage] = ()) -> LinkTrace:
    """A preset by name or a trace file by path, with `outages` on top.

    `lab-default` is stretched to `duration_s`; the other presets are generated that long; files loop as they say.
    A preset that is drawn by chance is the same every time; `lte:7`, with a number from 0, is another run of it.
    Raises SettingsError (key "link").
    """
    name = _ALIASES.get(name_or_path, name_or_path)
    base, _, seed = name.partition(":")
    if base in PRESETS and seed.isdecimal() and base not in _BY_CHANCE:
        raise SettingsError(
            f"link {base} leaves nothing to chance and so has no other runs",
            key="link",
            advice=f"it is called {base}",
        )
    if not 0 < duration_s < math.inf:
        raise SettingsError(f"a link can't last {duration_s:g} s", key="link")
    if base in _BY_CHANCE and seed.isdecimal():
        trace = _BY_CHANCE[base](duration_s, f"{base}:{int(seed)}")
    elif name in PRESETS:
        trace = PRESETS[name](duration_s)
    else:
        trace = _read(Path(name_or_path).expanduser())
    return trace.with_outages(outages) if outages else trace


def lab_default(duration_s: float) -> LinkTrace:
    """Good, fading with growing delay, gone, limping back, good again; laid out over 60 s and stretched."""
    scale = duration_s / _LAB_LENGTH_S
    rng = random.Random(7)
    steps: list[Step] = []
    for index in range(240):
        t = index / 4
        rate, delay, jitter = _lab_conditions(t)
        steps.append(Step(t * scale, rate * rng.uniform(0.94, 1.06), delay, jitter))
    return LinkTrace("lab-default", tuple(steps), duration_s, loop=False, outages=(Outage(33 * scale, 6 * scale),))


def _lab_conditions(t: float) -> tuple[float, float, float]:
    """(rate in bit/s, delay in ms, jitter in ms) at second `t` of 60."""
    if t < 15 or t >= 45:
        return 10e6, 10.0, 1.0
    if t < 30:
        faded = (t - 15) / 15
        return 10e6 * (0.6 / 10) ** faded, 10 + 20 * faded, 1 + 3 * faded
    if t < 39:
        return 0.6e6, 30.0, 4.0
    recovered = (t - 39) / 6
    return 0.8e6 * (2.5 / 0.8) ** recovered, 30 - 15 * recovered, 3.0


def _steady(
    name: str, bps: float, delay_ms: float, jitter_ms: float, down_bps: float
) -> Callable[[float], LinkTrace]:
    def build(duration_s: float) -> LinkTrace:
        return LinkTrace(name, (Step(0, bps, delay_ms, jitter_ms),), duration_s, down_bps=down_bps)

    return build


def _wandering(bps: float, spread: float, delay_ms: float, jitter_ms: float, down_bps: float) -> _Drawn:
    """Rate follows a log-normal first-order walk around `bps` with a memory of about 3 s."""

    def build(duration_s: float, seed: str) -> LinkTrace:
        rng = random.Random(seed)
        keep = math.exp(-0.5 / 3)
        log_rate, steps = 0.0, []
        for index in range(max(1, math.ceil(duration_s * 2))):
            log_rate = keep * log_rate + math.sqrt(1 - keep * keep) * spread * rng.gauss(0, 1)
            log_rate = min(2.5 * spread, max(-2.5 * spread, log_rate))
            slowness = max(0.0, -log_rate)
            steps.append(Step(index / 2, bps * math.exp(log_rate), delay_ms * (1 + slowness), jitter_ms))
        return LinkTrace(seed, tuple(steps), max(duration_s, len(steps) / 2), down_bps=down_bps)

    return build


def _network(process: Process) -> _Drawn:
    def build(duration_s: float, seed: str) -> LinkTrace:
        return LinkTrace(seed, process.steps(duration_s, seed), duration_s, down_bps=process.down_bps)

    return build


_BY_CHANCE: Final[dict[str, _Drawn]] = {
    "wifi": _wandering(30e6, 0.3, 4, 2, 60e6),
    "lte": _wandering(10e6, 0.4, 28, 5, 30e6),
    "3g": _wandering(1.2e6, 0.45, 70, 8, 4e6),
    **{name: _network(process) for name, process in NETWORKS.items()},
}

PRESETS: Final[dict[str, Callable[[float], LinkTrace]]] = {
    "lab-default": lab_default,
    "lan": _steady("lan", 100e6, 0.5, 0.0, 100e6),
    **{name: partial(build, seed=name) for name, build in _BY_CHANCE.items()},
    "adsl": _steady("adsl", 1e6, 18, 1, 8e6),
    "uplink-64k": _steady("uplink-64k", 64e3, 40, 0, 1e6),
    "satellite": _steady("satellite", 3e6, 280, 6, 20e6),
    "dead": _steady("dead", 0, 25, 0, 0),
}
"""Name → trace of the given length in seconds."""


def _read(path: Path) -> LinkTrace:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise SettingsError(f"link trace {path} exceeds {_MAX_FILE_BYTES >> 20} MiB", key="link")
        text = path.read_text("utf-8")
    except FileNotFoundError:
        advice = f"presets: {', '.join(PRESETS)}; or a file: {FORMATS}"
        raise SettingsError(
            f"no link is called {str(path)!r} and no file is there", key="link", advice=advice
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"link trace {path} is not text", key="link", advice=f"known: {FORMATS}") from None
    except OSError as exc:
        raise SettingsError(f"link trace {path} can't be read: {exc.strerror}", key="link") from exc
    return parse_trace(text, name=path.name)
