"""Owns how a settings model becomes command-line options; values stay text until `resolve` judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import click

from splitmesh.settings.keys import Key, keys_of
from splitmesh.settings.model import Settings
from splitmesh.settings.resolve import Resolved, resolve

S = TypeVar("S", bound=Settings)

_CONFIG = "config"


def settings_options(model: type[Settings]) -> list[click.Parameter]:
    """One option per field, plus `--config FILE`."""
    own = [_option(key) for key in keys_of(model).values()]
    config = click.Option(
        ["--config", _CONFIG],
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Settings file (TOML); default: $SPLITMESH_CONFIG, or splitmesh.toml here.",
    )
    return [*own, config]


def resolve_options(model: type[S], values: dict[str, Any]) -> Resolved[S]:
    """Settings from what click parsed for `settings_options(model)`. Raises SettingsError."""
    flags = {name: value for name, value in values.items() if name != _CONFIG}
    return resolve(model.section, model, flags, config=values.get(_CONFIG))


def _option(key: Key) -> click.Option:
    default = key.written(key.default)
    notes = ["required"] if key.required else [f"default: {default}"] if default else []
    help_text = f"{key.doc}.  [{'; '.join([*notes, key.env])}]"
    if key.is_bool:
        return click.Option([key.flags, key.field], default=None, help=help_text)
    return click.Option([key.flag, key.field], type=str, default=None, metavar=key.metavar, help=help_text)
