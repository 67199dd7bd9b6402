"""Owns finding the links that `splitmesh bench policy` is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from splitmesh.errors import SettingsError
from splitmesh.provision.link.presets import load_link
from splitmesh.provision.link.trace import LinkTrace


def links_named(names: Iterable[str], *, duration_s: float) -> dict[str, LinkTrace]:
    """Presets by name, laid out over `duration_s`, and trace files by path. Raises SettingsError (key "link")."""
    return {name: load_link(name, duration_s=duration_s) for name in names}


def links_of_folders(folders: Iterable[Path]) -> dict[str, LinkTrace]:
    """Every trace below each folder, by its path from there; hidden files are passed over.

    Raises SettingsError (key "link"): no such folder, no file in it, a file that is no trace.
    """
    found: dict[str, LinkTrace] = {}
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder} of link traces", key="link")
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise SettingsError(f"folder {folder} holds no link trace", key="link")
        for path in files:
            name = str(path.relative_to(folder))
            found[name if name not in found else str(path)] = load_link(str(path))
    return found
