"""The Python client, sync and async, and its examples as a user runs them, against a real gateway and worker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from cloud_rig import MODEL, PICTURE, worker_on
from gateway_rig import caller_of, gateway_on, until

from splitmesh import AsyncClient, Client
from splitmesh.bus.server import EmbeddedServer
from splitmesh.client import CallFailed, FrameFailed, Watch
from splitmesh.cloud.hosted import Hosted
from splitmesh.errors import FrameShapeError, SourceError
from splitmesh.gateway.command import Gateway
from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.media.clip import write_test_clip
from splitmesh.plan.bundle.read import Bundle

JPEG = simplejpeg.encode_jpeg(np.ascontiguousarray(PICTURE), 95, "RGB", "444")


@pytest.fixture
async def gateway(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tmp_path: Path
) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway with a worker, and a token for it."""
    token = new_token()
    (tmp_path / "tokens.toml").write_text(entry(token, Account("default", "client")))
    async with worker_on(broker, hosted), gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as made:
        async with caller_of(made, token) as caller:
            await caller.workers()
        yield made, token


def address(gateway: Gateway) -> str:
    return f"127.0.0.1:{gateway.grpc_port}"


async def test_both_clients_give_the_same(gateway: tuple[Gateway, str], hosted: Hosted, tmp_path: Path) -> None:
    made, token = gateway
    file = tmp_path / "picture.jpg"
    file.write_bytes(JPEG)
    pictures = [JPEG, file, str(file), np.asarray(PICTURE)]
    exact = hosted.execute("", lambda: simplejpeg.decode_jpeg(JPEG, "RGB")).answer

    def ask() -> tuple[Any, ...]:
        with Client(address(made), token=token) as mesh:
            one = mesh.infer(JPEG, budget_ms=5000)
            return mesh.models(), one, sorted(mesh.analyze(pictures, budget_ms=5000), key=lambda r: r.seq)

    models, one, many = await asyncio.to_thread(ask)
    async with AsyncClient(address(made), token=token) as mesh:
        assert [m.name for m in await mesh.models()] == [m.name for m in models] == [MODEL]
        again = await mesh.infer(JPEG, budget_ms=5000)
        more = sorted([result async for result in mesh.analyze(pictures, budget_ms=5000)], key=lambda r: r.seq)
    assert models[0].workers == ("w-1",) and models[0].sha256 == hosted.sha256
    for result in (one, again, *many, *more):
        answer = result.checked()
        assert np.array_equal(answer.classes, exact.classes) and np.allclose(answer.scores, exact.scores, atol=1e-6)
    assert [r.seq for r in many] == [r.seq for r in more] == [0, 1, 2, 3]


async def test_a_frame_and_a_call_fail_by_name(gateway: tuple[Gateway, str]) -> None:
    made, token = gateway
    async with AsyncClient(address(made), token=token) as mesh:
        result = await mesh.infer(b"no picture")
        with pytest.raises(FrameFailed) as frame_failed:
            result.checked()
        with pytest.raises(CallFailed) as unknown:
            await mesh.explain("nobody.run.1")
        with pytest.raises(CallFailed) as away:
            await mesh.policy("nobody")
        with pytest.raises(CallFailed) as malformed:
            await mesh.policy("no body")
        story = await mesh.explain(result.frame_id)
    assert frame_failed.value.code == "bad_frame" and not frame_failed.value.retryable
    assert (unknown.value.code, unknown.value.reason, unknown.value.field) == ("NOT_FOUND", "UNKNOWN_NAME", "edge")
    assert away.value.code == "NOT_FOUND" and malformed.value.code == "INVALID_ARGUMENT"
    assert story.frame.outcome == "expired" and story.frame.note == result.fault.detail

    def ask() -> CallFailed:
        with Client(address(made), token="smt_no") as mesh, pytest.raises(CallFailed) as caught:
            list(mesh.analyze([JPEG]))
        return caught.value

    assert (await asyncio.to_thread(ask)).reason == "ACCESS_DENIED"
    async with AsyncClient(address(made)) as mesh:
        with pytest.raises(CallFailed, match="no token"):
            _ = [result async for result in mesh.analyze([JPEG])]
    async with AsyncClient("127.0.0.1:1", timeout_s=5) as mesh:
        with pytest.raises(CallFailed) as unreached:
            await mesh.models()
    assert unreached.value.code == "UNAVAILABLE" and unreached.value.retryable


@pytest.mark.parametrize(
    ("bad", "kind"), [(np.zeros((4, 4)), FrameShapeError), (Path("/no/such.jpg"), SourceError)], ids=["shape", "file"]
)
async def test_what_our_own_pictures_raise_comes_out(gateway: tuple[Gateway, str], bad: Any, kind: type) -> None:
    made, token = gateway

    def pictures() -> Iterator[Any]:
        yield JPEG
        yield bad

    def ask() -> None:
        with Client(address(made), token=token) as mesh, pytest.raises(kind):
            list(mesh.analyze(pictures()))

    await asyncio.to_thread(ask)
    async with AsyncClient(address(made), token=token) as mesh:
        with pytest.raises(kind):
            _ = [result async for result in mesh.analyze(pictures())]


async def test_who_stops_reading_ends_the_call(gateway: tuple[Gateway, str]) -> None:
    made, token = gateway

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield JPEG

    async with AsyncClient(address(made), token=token) as mesh:
        results = mesh.analyze(endless(), budget_ms=5000)
        assert (await anext(results)).answer is not None
        await results.aclose()
        events = mesh.watch(kinds=[Watch.FLEET])
        waiting = asyncio.ensure_future(anext(events))
        await until(lambda: made.calls == 1)
        waiting.cancel()
        await asyncio.wait({waiting})
        await events.aclose()
    await until(lambda: made.calls == 0)


Check = Callable[[str, Path], bool]
EXAMPLES: dict[str, tuple[list[str], Check]] = {
    "picture_file": (["{folder}/0.jpg", "{address}"], lambda out, _: "found by w-1 in" in out),
    "numpy_arrays": (["{address}"], lambda out, _: sum("found" in line for line in out.splitlines()) == 8),
    "picture_folder": (
        ["{folder}", "{folder}/out.jsonl", "{address}"],
        lambda out, folder: (
            "2 of 3 pictures analysed" in out
            and sorted("found" in json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines())
            == [False, True, True]
        ),
    ),
    "webcam": (["{folder}/clip.mp4", "{address}", "12"], lambda out, _: "12 answered, 0 not" in out),
}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_runs(gateway: tuple[Gateway, str], tmp_path: Path, project: Path, name: str) -> None:
    made, token = gateway
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(JPEG)
    (folder / "broken.png").write_bytes(b"no picture")
    write_test_clip(folder / "clip.mp4")
    arguments, holds = EXAMPLES[name]
    words = [word.format(folder=folder, address=address(made)) for word in arguments]
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(project / "examples" / f"{name}.py"),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "SPLITMESH_TOKEN": token},
    )
    out = (await asyncio.wait_for(child.communicate(), 60))[0].decode()
    assert child.returncode == 0 and holds(out, folder), out


async def test_the_programs_of_the_document_run(gateway: tuple[Gateway, str], tmp_path: Path, project: Path) -> None:
    made, token = gateway
    (tmp_path / "street.jpg").write_bytes(JPEG)
    programs = re.findall(
        r"^```python\n(.*?)^```$", (project / "docs/gateway.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(programs) == 2
    for program in programs:
        assert '"127.0.0.1:9470"' in program
        text = program.replace('"127.0.0.1:9470"', f'"{address(made)}", token="{token}"')
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", text, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out = (await asyncio.wait_for(child.communicate(), 60))[0].decode()
        assert child.returncode == 0 and out.strip() and "Traceback" not in out, out


def test_every_example_is_run(project: Path) -> None:
    assert {path.stem for path in (project / "examples").glob("*.py")} == set(EXAMPLES)
