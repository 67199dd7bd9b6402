"""Owns writing a manifest as TOML that a user can read, correct and give back. Reading is `plan.manifest`'s."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from splitmesh.plan.manifest import Manifest

_LINE = 100
"""Longer arrays are broken."""


def manifest_toml(manifest: Manifest, notes: Sequence[str] = ()) -> str:
    """The TOML that `parse_manifest` reads back as an equal manifest, with `notes` as comments before it."""
    values = manifest.model_dump(mode="json", exclude_none=True)
    post, extra = values.pop("postprocess"), values.pop("extra")
    lines = [f"# {''.join(c if c.isprintable() else ' ' for c in note)}" for note in notes]
    lines += _pairs(values)
    for each in extra:
        lines += ["", "[[extra]]", *_pairs(each)]
    lines += ["", "[postprocess]", *_pairs({"kind": post.pop("kind"), **post})]
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        items = [_value(item) for item in value]
        plain = f"[{', '.join(items)}]"
        return plain if len(plain) <= _LINE else _broken(items)
    return repr(value)


def _broken(items: Sequence[str]) -> str:
    lines = [""]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > _LINE:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return "[\n" + "\n".join(f"  {line}" for line in lines) + "\n]"
