"""Owns load on a server of the KServe v2 (Open Inference) protocol over HTTP/1.1: Triton, KServe, OpenVINO, MLServer.

    kserve://host[:port]/model[/version][?data=json|binary][&shape=INPUT:1x3x224x224]
    kserves://…                               the same over TLS

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and for tensors as bytes behind
the JSON, Triton's extension_binary_data.md. Requests are made from the model's metadata: random numbers, open
dimensions as 1. A payload of type application/json goes out as a whole request; any other but a synthetic one is the
data of the model's one input.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import replace
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, quote

from meshload.errors import TargetError
from meshload.target import Payload
from meshload.targets import TargetOptions
from meshload.targets.http import HttpTarget, head_of
from meshload.targets.network import advice_for, tls_context, words_for
from meshload.targets.v2_tensors import Input, UnfitError, from_bytes, infer_body, made_up, parse_shapes, read_inputs

_PORTS: Final = {"kserve": 8000, "kserves": 443}
_MOST_BYTES: Final = 4 * 1024 * 1024
_BINARY: Final = "binary_tensor_data"
"""What a server lists among its extensions if tensors may follow the JSON as bytes."""


def kserve_target(url: str, parts: SplitResult, options: TargetOptions) -> KserveTarget:
    """Raises TargetError for a URL that names no model."""
    names = [name for name in parts.path.split("/") if name]
    query = parse_qs(parts.query)
    data, shapes = query.pop("data", [""])[-1], query.pop("shape", [])
    if not 1 <= len(names) <= 2 or query or data not in ("", "json", "binary"):
        raise TargetError(
            "is not understood", url=url, advice="write it as kserve://host:8000/model[/version][?data=json|binary]"
        )
    model = f"/v2/models/{quote(names[0])}" + (f"/versions/{quote(names[1])}" if len(names) == 2 else "")
    address = parts if parts.port else parts._replace(netloc=f"{parts.netloc}:{_PORTS[parts.scheme]}")
    try:
        wanted = parse_shapes(shapes)
    except UnfitError as exc:
        raise TargetError(str(exc), url=url, advice="write shape=INPUT:1x3x224x224") from exc
    return KserveTarget(url, address, replace(options, method="POST"), model=model, data=data, shapes=wanted)


class KserveTarget(HttpTarget):
    """model: its path on the server. data: "json", "binary", or "" for binary where the server can. shapes: by input,
    for those whose metadata leaves dimensions open."""

    def __init__(
        self,
        url: str,
        parts: SplitResult,
        options: TargetOptions,
        *,
        model: str,
        data: str,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        scheme = "https" if parts.scheme == "kserves" else "http"
        super().__init__(url, parts._replace(scheme=scheme, path=f"{model}/infer", query=""), options)
        self._model, self._data, self._shapes = model, data, shapes
        self._inputs: tuple[Input, ...] = ()
        self._server = ""

    async def open(self) -> None:
        await asyncio.to_thread(self._learn)
        await super().open()

    def describe(self) -> str:
        inputs = ", ".join(f"{each.name} {each.datatype} {'x'.join(map(str, each.shape))}" for each in self._inputs)
        where = f"{self._host}:{self._port}{', TLS' * self._secure}"
        return f"KServe v2 at {where} ({self._server or 'not asked yet'}), {self._model}: {inputs} as {self._data}"

    def _message(self, payload: Payload) -> bytes | None:
        """The whole HTTP request; None: the payload does not fit the model."""
        try:
            head_bytes, body, kind = self._infer(payload)
        except UnfitError:
            return None
        fields = [each for each in self.asks.headers if each[0].lower() != "content-type"]
        fields += [("Content-Length", str(len(body))), ("Content-Type", kind)]
        if head_bytes is not None:
            fields.append(("Inference-Header-Content-Length", str(head_bytes)))
        return head_of(self.asks, fields) + body

    def _infer(self, payload: Payload) -> tuple[int | None, bytes, str]:
        """(bytes of the JSON where tensors follow it, body, its content type). Raises UnfitError."""
        if payload.content_type == "application/json":
            return None, payload.body, payload.content_type
        if payload.name.startswith("synthetic"):
            tensors = [made_up(each) for each in self._inputs]
        else:
            tensors = [from_bytes(self._inputs, payload.body)]
        binary = self._data == "binary"
        head_bytes, body = infer_body(tensors, binary=binary)
        return (head_bytes, body, "application/octet-stream") if binary else (None, body, "application/json")

    # what the server says of itself

    def _learn(self) -> None:
        """In a thread. Raises TargetError."""
        server = self._get("/v2")
        metadata = self._get(self._model)
        extensions = server.get("extensions")
        binary = isinstance(extensions, list) and _BINARY in extensions
        self._server = f"{server.get('name', 'unnamed')} {server.get('version', '')}".strip()
        self._data = self._data or ("binary" if binary else "json")
        try:
            self._inputs = read_inputs(metadata, self._shapes)
        except UnfitError as exc:
            raise TargetError(str(exc), url=self.url, advice="open dimensions: ?shape=INPUT:1x3x224x224") from exc

    def _get(self, path: str) -> dict[str, Any]:
        address, timeout_s = (self._host, self._port), self.options.connect_timeout_s
        connection = http.client.HTTPConnection(*address, timeout=timeout_s)
        if self._secure:
            trust = tls_context(self.options.tls_ca, insecure=self.options.tls_insecure)
            connection = http.client.HTTPSConnection(*address, timeout=timeout_s, context=trust)
        try:
            connection.request("GET", path, headers=dict(self.asks.headers))
            response = connection.getresponse()
            raw = response.read(_MOST_BYTES)
        except (OSError, http.client.HTTPException) as exc:
            error = exc if isinstance(exc, OSError) else ValueError(str(exc))
            raise TargetError(words_for(error), url=self.url, advice=advice_for(error, "the server")) from exc
        finally:
            connection.close()
        if response.status != 200:
            said = raw[:200].decode("utf-8", "replace").strip()
            raise TargetError(
                f"GET {path} gave HTTP {response.status} {said}", url=self.url, advice="is the model's name right?"
            )
        try:
            value = json.loads(raw)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise TargetError(f"GET {path} gave no JSON object", url=self.url, advice="does it speak KServe v2?")
        return value
