"""Owns payloads that are a JSON document, from the command line or a file. Refuses what is no JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from meshload.payloads.prepared import PayloadError, Prepared, Terms, gathered
from meshload.payloads.spec import Json
from meshload.target import Payload

CONTENT_TYPE: Final = "application/json"


def document(spec: Json, text: str, terms: Terms) -> Prepared:
    """The document as it is written, in UTF-8. Raises PayloadError for what can't be read or is no JSON."""
    name = spec.file or "the command line"
    try:
        data = Path(spec.file).read_bytes() if spec.file else spec.text.encode()
        json.loads(data)
    except OSError as exc:
        raise PayloadError(f"{name} can't be read: {exc.strerror}", spec=text) from exc
    except ValueError as exc:
        raise PayloadError(f"{name} holds no JSON: {exc}", spec=text) from exc
    made = [Payload(data, name=f"JSON of {name}", content_type=CONTENT_TYPE)]
    return gathered(made, spec=text, what=made[0].name, limit_bytes=terms.limit_bytes)
