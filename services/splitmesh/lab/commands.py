"""Owns the command lines and the cores of the lab's processes. Pure: settings in, argument lists out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splitmesh.settings.keys import keys_of
from splitmesh.settings.model import SECTIONS


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores each side of the mesh may use; empty: any."""

    edge: tuple[int, ...] = ()
    rest: tuple[int, ...] = ()
    """Worker, broker and link: nothing of them may steal time from the edge."""

    def __str__(self) -> str:
        return f"edge on {list(self.edge)}, the rest on {list(self.rest)}" if self.edge else "not pinned"


def share_cores(available: tuple[int, ...], *, edge_threads: int) -> Cores:
    """As many cores for the edge as it has threads, the others for the rest; nothing is pinned on one core."""
    edge_count = min(edge_threads, len(available) - 1)
    if edge_count < 1:
        return Cores()
    return Cores(available[:edge_count], available[edge_count:])


def command_line(section: str, values: Mapping[str, Any]) -> list[str]:
    """`splitmesh <section> …` with every one of `values` (field name → value, None: off) as an explicit flag.

    Settings files of the user are kept out: a lab run must mean the same everywhere.
    """
    keys = keys_of(SECTIONS[section])
    arguments = [sys.executable, "-m", "splitmesh.cli.main", section, "--config", os.devnull]
    for field, value in values.items():
        key = keys[field]
        if key.is_bool:
            on, off = key.flags.split("/")
            arguments.append(on if value else off)
        elif value is None:
            arguments += [key.flag, "off"]
        else:
            arguments += [key.flag, key.written(value)]
    return arguments


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without settings of other sections, for the same reason."""
    prefixes = tuple(f"SPLITMESH_{section}_".upper() for section in SECTIONS)
    shared = ("SPLITMESH_CONFIG", "SPLITMESH_NATS_URL")
    return {name: value for name, value in environment.items() if not name.startswith(prefixes + shared)}
