"""Owns where a setting's value comes from: flag, then environment, then TOML file, then preset, then default;
and says which.

Reads the environment and at most one TOML file. Every refusal names the key, the value, the rule and the origin.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from splitmesh.errors import SettingsError
from splitmesh.settings.keys import Key, keys_of, near, written
from splitmesh.settings.model import SECTIONS, Settings
from splitmesh.settings.presets import PRESETS
from splitmesh.telemetry.logs import masked

S = TypeVar("S", bound=Settings)

CONFIG_VARIABLE = "SPLITMESH_CONFIG"
DEFAULT_FILE = "splitmesh.toml"
_KUBERNETES = re.compile(r"SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?")
"""What Kubernetes puts into every pod for a Service called `splitmesh-edge`; none of our business."""


@dataclass(frozen=True, slots=True)
class Resolved(Generic[S]):
    """Valid settings, and for each field "flag --x", "env NAME", "file PATH", "preset NAME" or "default"."""

    settings: S
    provenance: dict[str, str]


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, before any rule was applied to it."""

    value: Any
    origin: str


def resolve(
    section: str,
    model: type[S],
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Resolved[S]:
    """Settings of `section`. `flags`: field name → value, None meaning "not given".

    Raises SettingsError for unknown keys and broken rules.
    """
    given = gather(section, model, flags, config=config, environ=environ, cwd=cwd)
    given = _preset(section, given) | given
    settings = checked(model, given)
    provenance = {name: given[name].origin if name in given else "default" for name in model.model_fields}
    return Resolved(settings, provenance)


def checked(model: type[S], given: Mapping[str, Given]) -> S:
    """Settings of `given` (by field) and defaults alone. Raises SettingsError for unknown keys and broken rules."""
    keys = keys_of(model)
    for name, each in given.items():
        if name not in keys:
            raise SettingsError(
                f"{each.origin} has an unknown key {name}", key=f"{model.section}.{name}", advice=near(name, keys)
            )
    try:
        return model(**{name: each.value for name, each in given.items()})
    except ValidationError as exc:
        raise _settings_error(exc, keys, given) from None


def gather(
    section: str,
    model: type[Settings],
    flags: Mapping[str, Any],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> dict[str, Given]:
    """The strongest value given for each field that has one. Raises SettingsError for unknown keys.

    An empty text in the environment or the file means "not set".
    """
    env = os.environ if environ is None else environ
    keys = keys_of(model)
    given = _from_file(section, keys, config_path(config, env, cwd))
    given.update(_from_environment(keys, env, f"SPLITMESH_{section}_".upper()))
    for name, value in flags.items():
        if name not in keys:
            raise SettingsError(f"{section} has no setting {name}", key=f"{section}.{name}", advice=near(name, keys))
        if value is not None:
            given[name] = Given(value, f"flag {keys[name].flag}")
    return given


def _preset(section: str, given: Mapping[str, Given]) -> dict[str, Given]:
    """What the preset that was chosen says; nothing for a name that there is not, which the rules refuse."""
    name = given["preset"].value if "preset" in given else ""
    chosen = PRESETS.get(section, {}).get(name, {}) if isinstance(name, str) else {}
    return {field: Given(value, f"preset {name}") for field, value in chosen.items()}


def config_path(config: Path | None, environ: Mapping[str, str], cwd: Path | None = None) -> Path | None:
    """The TOML file in use: `--config`, `$SPLITMESH_CONFIG`, or `splitmesh.toml` here if there is one."""
    if config is not None:
        return config
    if environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE]).expanduser()
    here = (cwd or Path.cwd()) / DEFAULT_FILE
    return here if here.is_file() else None


def shown(key: Key, value: Any) -> str:
    """`value` for a screen or a log: as one would write it, without passwords and tokens."""
    return masked(key.written(value))


def _from_file(section: str, keys: Mapping[str, Key], path: Path | None) -> dict[str, Given]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as exc:
        advice = f"see --config and ${CONFIG_VARIABLE}"
        raise SettingsError(f"can't read settings file {path}: {exc.strerror}", key="config", advice=advice) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"settings file {path} is not valid TOML: {exc}", key="config") from exc
    for name, value in table.items():
        if name not in SECTIONS:
            advice = near(name, SECTIONS) or f"sections are {', '.join(SECTIONS)}"
            raise SettingsError(f"{path} has an unknown section [{name}]", key=name, advice=advice)
        if not isinstance(value, dict):
            raise SettingsError(f"{path}: {name} must be a table [{name}]", key=name)
    rows = table.get(section, {})
    for name in rows:
        if name not in keys:
            advice = near(name, keys) or f"`splitmesh config {section}` lists what there is"
            raise SettingsError(f"{path} has an unknown key {section}.{name}", key=f"{section}.{name}", advice=advice)
    return {name: Given(value, f"file {path}") for name, value in rows.items() if value != ""}


def _from_environment(keys: Mapping[str, Key], env: Mapping[str, str], prefix: str) -> dict[str, Given]:
    given: dict[str, Given] = {}
    by_variable = {key.env: key for key in keys.values()}
    for key in keys.values():
        if key.also_env and env.get(key.also_env):
            given[key.field] = Given(env[key.also_env], f"env {key.also_env}")
    for variable, value in env.items():
        if not value or not variable.startswith(prefix) or _KUBERNETES.fullmatch(variable.removeprefix(prefix)):
            continue
        if variable not in by_variable:
            raise SettingsError(
                f"unknown environment variable {variable}", key=variable, advice=near(variable, by_variable)
            )
        given[by_variable[variable].field] = Given(value, f"env {variable}")
    return given


def _settings_error(exc: ValidationError, keys: Mapping[str, Key], given: Mapping[str, Given]) -> SettingsError:
    lines: list[str] = []
    first = ""
    for error in exc.errors(include_url=False):
        name = str(error["loc"][0])
        if any(line.startswith(f"{keys[name].dotted} ") for line in lines):
            continue
        first = first or keys[name].dotted
        lines.append(_complaint(error, keys[name], given.get(name)))
    return SettingsError("; ".join(lines), key=first)


def _complaint(error: ErrorDetails, key: Key, given: Given | None) -> str:
    if error["type"] == "missing":
        return f"{key.dotted} is required: give {key.flag}, {key.env} or {key.field} in [{key.section}] of the file"
    rule = error["msg"].removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    value = masked(written(given.value)) if given else ""
    origin = given.origin if given else "default"
    return f'{key.dotted} = "{value}" (from {origin}): {rule}'
