"""Owns `python -m splitmesh.provision.link NAME`: what a link is like, as text, JSON, picture or trace file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from splitmesh.errors import OutputError, SettingsError
from splitmesh.provision.link.export import export_trace
from splitmesh.provision.link.picture import link_svg
from splitmesh.provision.link.presets import PRESETS, load_link

_EXIT_FAILED, _EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 a file can't be written, 2 no such link."""
    given = _parser().parse_args(argv)
    try:
        link = load_link(given.name, duration_s=given.duration_s)
        if given.export:
            _write(given.export, export_trace(link, given.export.name))
        if given.plot:
            _write(given.plot, link_svg(link))
    except (SettingsError, OutputError) as exc:
        sys.stderr.write(f"error: {exc.message}\n" + (f"  {exc.advice}\n" if exc.advice else ""))
        return _EXIT_USAGE if isinstance(exc, SettingsError) else _EXIT_FAILED
    shown = {"link": link.name, "summary": link.describe(), "rows": link.to_rows()}
    sys.stdout.write((json.dumps(shown) if given.json else link.describe()) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m splitmesh.provision.link", description="Show a link.")
    parser.add_argument("name", help=f"a trace file or one of {', '.join(PRESETS)}; lte:7 is another run of lte")
    parser.add_argument("--duration-s", type=float, default=60.0, help="length that a preset is laid out for")
    parser.add_argument("--json", action="store_true", help="the rate, delay and outages every 250 ms")
    parser.add_argument("--plot", type=Path, metavar="OUT.svg", help="draw rate and delay over time")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write it as .toml, .csv, .json or .up")
    return parser


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise OutputError(f"{path} can't be written: {exc.strerror}", path=str(path)) from exc


if __name__ == "__main__":
    sys.exit(main())
