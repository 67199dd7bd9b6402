"""Owns finding the links that `splitmesh bench policy` is asked for, and the sets that they make."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from splitmesh.errors import SettingsError
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace

PRESET_SET: Final = "presets"


class Links(NamedTuple):
    """By name."""

    traces: dict[str, LinkTrace]
    sets: dict[str, str]
    """The set of each: the name of the folder that its file is in, or "presets"."""

    def with_more(self, other: Links) -> Links:
        return Links({**self.traces, **other.traces}, {**self.sets, **other.sets})


def links_named(names: Iterable[str], *, duration_s: float) -> Links:
    """Presets by name, laid out over `duration_s`, and trace files by path. Raises SettingsError (key "link")."""
    traces = {name: load_link(name, duration_s=duration_s) for name in names}
    return Links(traces, {name: _set_of(Path(name)) if Path(name).is_file() else PRESET_SET for name in traces})


def links_of_folders(folders: Iterable[Path]) -> Links:
    """Every trace below each folder, by its path from there; hidden files are passed over.

    Raises SettingsError (key "link"): no such folder, no file in it, a file that is no trace.
    """
    found = Links({}, {})
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder} of link traces", key="link")
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise SettingsError(f"folder {folder} holds no link trace", key="link")
        for path in files:
            name = str(path.relative_to(folder))
            name = name if name not in found.traces else str(path)
            found.traces[name] = load_link(str(path))
            found.sets[name] = _set_of(path)
    return found


def _set_of(path: Path) -> str:
    return path.resolve().parent.name
