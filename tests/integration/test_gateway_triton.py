"""tritonclient, unchanged and in a process of its own, infers against a real gateway."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cloud_rig import MODEL, PICTURE, worker_on
from gateway_rig import caller_of, counted, gateway_on

from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.gateway.command import Gateway
from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.plan.bundle.read import Bundle

SCRIPT = Path(__file__).with_name("triton_caller.py")


NOISE = np.random.default_rng(7).integers(0, 256, PICTURE.shape, np.uint8)
"""Which any loss on the way would change."""


async def triton(gateway: Gateway, folder: Path, token: str = "") -> tuple[int, str, str]:
    """(status, output, errors) of the script."""
    np.save(folder / "pixels.npy", NOISE)
    arguments = (f"127.0.0.1:{gateway.grpc_port}", MODEL, str(folder / "pixels.npy"), token)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode is not None
    return child.returncode, out.decode(), errors.decode()


async def test_it_infers_and_asks(broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path) -> None:
    async with worker_on(broker, hosted), gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        await caller.workers()
        status, out, errors = await triton(gateway, tmp_path)
    assert status == 0, errors
    told: dict[str, Any] = json.loads(out)
    assert told["live"] and told["ready"] and told["model_ready"] and told["id"] == "r-1"
    height, width = PICTURE.shape[:2]
    (given,) = told["metadata"]["inputs"]
    assert given == {"name": "image", "datatype": "UINT8", "shape": ["1", str(height), str(width), "3"]}
    assert told["metadata"]["versions"] == [bundle.sha256[:12]]
    exact = hosted.execute("", lambda: NOISE).answer
    assert told["classes"] == exact.classes.tolist()
    assert told["boxes"] == exact.boxes.tolist() and told["scores"] == exact.scores.tolist()
    assert told["scores_alone"] == told["scores"] == told["scores_async"] and told["only"] == ["scores"]
    assert told["wrong_input"][0] == "StatusCode.INVALID_ARGUMENT" and "'image'" in told["wrong_input"][1]
    assert told["wrong_model"][0] == "StatusCode.NOT_FOUND" and MODEL in told["wrong_model"][1]


@pytest.mark.parametrize("known", [True, False])
async def test_it_shows_its_token(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path, known: bool
) -> None:
    token = new_token()
    (tmp_path / "tokens.toml").write_text(entry(token, Account("default", "triton")))
    tokens = {"tokens": tmp_path / "tokens.toml"}
    async with worker_on(broker, hosted), gateway_on(broker, bundle, **tokens) as gateway:
        async with caller_of(gateway, token) as caller:
            await caller.workers()
        status, _, errors = await triton(gateway, tmp_path, token if known else new_token())
        refused = counted(gateway, "splitmesh_gateway_refusals_total", door="grpc", reason="unknown-token")
    assert (status == 0) is known, errors
    assert known or ("UNAUTHENTICATED" in errors and refused == 1)
