"""Asks a server of the Open Inference Protocol by tritonclient as it is on PyPI, and prints what came as JSON.

Usage: python triton_caller.py HOST:PORT MODEL PIXELS.npy TOKEN
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio


def main(url: str, model: str, path: str, token: str) -> dict[str, Any]:
    client = triton.InferenceServerClient(url)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    metadata = client.get_model_metadata(model, headers=headers, as_json=True)
    (given,) = metadata["inputs"]
    pixels = np.load(path).reshape([int(n) for n in given["shape"]])
    picture = triton.InferInput(given["name"], list(pixels.shape), given["datatype"])
    picture.set_data_from_numpy(pixels)
    result = client.infer(model, [picture], request_id="r-1", client_timeout=20, headers=headers)
    part = client.infer(model, [picture], outputs=[triton.InferRequestedOutput("scores")], headers=headers)
    again = asyncio.run(infer_async(url, model, picture, headers))
    wrong = triton.InferInput("other", [1], "FP32")
    wrong.set_data_from_numpy(np.zeros(1, np.float32))
    return {
        "live": client.is_server_live(headers=headers),
        "ready": client.is_server_ready(headers=headers),
        "model_ready": client.is_model_ready(model, headers=headers),
        "server": client.get_server_metadata(headers=headers, as_json=True),
        "metadata": metadata,
        "id": result.get_response().id,
        **{name: result.as_numpy(name).tolist() for name in ("boxes", "scores", "classes")},
        "scores_alone": part.as_numpy("scores").tolist(),
        "only": [output.name for output in part.get_response().outputs],
        "scores_async": again.tolist(),
        "wrong_input": refusal(lambda: client.infer(model, [wrong], headers=headers)),
        "wrong_model": refusal(lambda: client.get_model_metadata("no-such", headers=headers)),
    }


async def infer_async(url: str, model: str, picture: triton.InferInput, headers: dict[str, str]) -> np.ndarray:
    async with triton_aio.InferenceServerClient(url) as client:
        return (await client.infer(model, [picture], headers=headers)).as_numpy("scores")


def refusal(ask: Any) -> list[str]:
    try:
        ask()
    except triton.InferenceServerException as exc:
        return [str(exc.status()), exc.message()]
    return []


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
