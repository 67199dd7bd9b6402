"""Owns the names of a field: flag, environment variable, TOML key; and its values as people read them."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from splitmesh.settings.model import Option, Settings

_UNIT_SUFFIXES = ("_ms", "_s", "_bps", "_bytes", "_w")


@dataclass(frozen=True, slots=True)
class Key:
    """All names of one field."""

    section: str
    field: str
    flag: str
    env: str
    also_env: str
    metavar: str
    doc: str
    is_bool: bool
    required: bool
    default: Any

    @property
    def dotted(self) -> str:
        return f"{self.section}.{self.field}"

    @property
    def flags(self) -> str:
        """The flag as click declares it: a switch also has the form that turns it off."""
        if not self.is_bool:
            return self.flag
        return (
            f"{self.flag}/--{self.flag[5:]}" if self.flag.startswith("--no-") else f"{self.flag}/--no-{self.flag[2:]}"
        )

    def written(self, value: Any) -> str:
        """`value` as one would write it in a flag or a variable, times with their unit; "" for None."""
        text = written(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            text += "ms" if self.field.endswith("_ms") else "s" if self.field.endswith("_s") else ""
        return text


def keys_of(model: type[Settings]) -> dict[str, Key]:
    """Field name → Key in the order of declaration: the section's own fields first, then the shared ones."""
    own = model.__annotations__
    ordered = sorted(model.model_fields.items(), key=lambda item: item[0] not in own)
    return {name: _key(model.section, name, info) for name, info in ordered}


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean …?`, or "" when nothing is close."""
    candidates = list(known)
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if not found:
        found = [each for each in candidates if each.startswith(name) or name.startswith(each)][:1]
    return f"did you mean {found[0]}?" if found else ""


def written(value: Any) -> str:
    """A value as one would write it in a flag or a variable, without a unit."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return ",".join(written(item) for item in value)
    return str(value)


def _key(section: str, name: str, info: FieldInfo) -> Key:
    flag = metavar = also_env = ""
    for option in _options(info):
        flag = option.flag or flag
        metavar = option.metavar or metavar
        also_env = option.also_env or also_env
    bare = name
    for suffix in _UNIT_SUFFIXES:
        bare = bare.removesuffix(suffix)
    return Key(
        section=section,
        field=name,
        flag=flag or "--" + bare.replace("_", "-"),
        env=f"SPLITMESH_{section}_{name}".upper(),
        also_env=also_env,
        metavar=metavar or _metavar(info.annotation),
        doc=info.description or "",
        is_bool=info.annotation is bool,
        required=info.is_required(),
        default=None if info.is_required() else info.get_default(call_default_factory=True, validated_data={}),
    )


def _options(info: FieldInfo) -> list[Option]:
    """Outermost last, so that a field's own option wins over its type's."""
    found = [item for item in _nested(info.annotation) if isinstance(item, Option)]
    return found + [item for item in info.metadata if isinstance(item, Option)]


def _nested(annotation: Any) -> list[Any]:
    if hasattr(annotation, "__metadata__"):
        return [*_nested(annotation.__origin__), *annotation.__metadata__]
    if get_origin(annotation) in (Union, types.UnionType):
        return [item for part in get_args(annotation) for item in _nested(part)]
    return []


def _metavar(annotation: Any) -> str:
    kinds = get_args(annotation) or (annotation,)
    if get_origin(annotation) is Literal:
        return "|".join(str(kind) for kind in kinds)
    if int in kinds:
        return "N"
    if float in kinds:
        return "X"
    return "PATH" if Path in kinds else "TEXT"
