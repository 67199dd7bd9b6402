"""A real HTTP server that speaks KServe v2, and reads requests with code of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

MODELS: dict[str, list[dict[str, Any]]] = {
    "sum": [
        {"name": "a", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "b", "datatype": "INT32", "shape": [3]},
    ],
    "jpeg": [{"name": "file", "datatype": "BYTES", "shape": [-1, 1]}],
    "half": [{"name": "x", "datatype": "FP16", "shape": [2]}],
}


class KserveServer:
    """What arrived, as this server understood it."""

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.got: list[dict[str, Any]] = []
        self.kinds = {"application/json": 0, "application/octet-stream": 0}

    async def server_metadata(self, request: HttpRequest) -> Response:
        extensions = ["binary_tensor_data"] if self.binary else []
        return JSONResponse({"name": "small", "version": "1", "extensions": extensions})

    async def model_metadata(self, request: HttpRequest) -> Response:
        name = request.path_params["model"]
        if name not in MODELS:
            return JSONResponse({"error": f"no model {name}"}, 404)
        return JSONResponse({"name": name, "versions": ["1"], "inputs": MODELS[name], "outputs": []})

    async def infer(self, request: HttpRequest) -> Response:
        body = await request.body()
        self.kinds[request.headers["content-type"]] += 1
        head_bytes = int(request.headers.get("inference-header-content-length", len(body)))
        asked = json.loads(body[:head_bytes])
        at, values = head_bytes, {}
        for row, known in zip(asked["inputs"], MODELS[request.path_params["model"]], strict=True):
            if (row["name"], row["datatype"]) != (known["name"], known["datatype"]):
                return JSONResponse({"error": "other inputs"}, 400)
            if "data" in row:
                values[row["name"]] = row["data"]
            else:
                size = row["parameters"]["binary_data_size"]
                values[row["name"]] = body[at : at + size]
                at += size
        if at != len(body):
            return JSONResponse({"error": "bytes are left over"}, 400)
        self.got.append({"path": request.url.path, **values})
        return JSONResponse({"model_name": request.path_params["model"], "outputs": []})

    def app(self) -> Starlette:
        routes = [Route("/v2", self.server_metadata)]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [Route(model, self.model_metadata), Route(f"{model}/infer", self.infer, methods=["POST"])]
        return Starlette(routes=routes)


@asynccontextmanager
async def serving(*, binary: bool, certificate: Path | None = None) -> AsyncIterator[tuple[KserveServer, str]]:
    """certificate: with its key, PEM; None: no TLS."""
    server = KserveServer(binary=binary)
    web = uvicorn.Server(
        uvicorn.Config(server.app(), port=0, log_level="error", lifespan="off", ssl_certfile=certificate)
    )
    web.install_signal_handlers = lambda: None  # type: ignore[method-assign]
    task = asyncio.create_task(web.serve())
    async with asyncio.timeout(20):
        while not web.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    port = web.servers[0].sockets[0].getsockname()[1]
    try:
        yield server, f"{'kserves' if certificate else 'kserve'}://127.0.0.1:{port}"
    finally:
        web.should_exit = True
        await task
