"""KServe v2 against a real HTTP server that speaks it, and reads requests with code of its own."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from kserve_rig import serving

from meshload.errors import TargetError
from meshload.target import Payload, Reply, Request, Status, Target
from meshload.targets import TargetOptions, open_target

SYNTHETIC = Payload(b"x" * 128, name="synthetic random bytes")


async def asked(target: Target, *payloads: Payload) -> list[Reply]:
    replies: dict[int, Reply] = {}
    all_there = asyncio.Event()

    def done(request: Request, reply: Reply) -> None:
        replies[request.seq] = reply
        if len(replies) == len(payloads):
            all_there.set()

    await target.open()
    try:
        for seq, payload in enumerate(payloads):
            target.send(Request(payload, seq, "r", time.monotonic_ns()), done)
        async with asyncio.timeout(20):
            await all_there.wait()
    finally:
        await target.close()
    return [replies[seq] for seq in range(len(payloads))]


async def test_a_request_is_made_of_the_metadata_as_bytes_where_the_server_takes_them() -> None:
    async with serving(binary=True) as (server, url):
        target = open_target(f"{url}/sum?shape=a:2x4", TargetOptions(in_flight=4))
        replies = await asked(target, SYNTHETIC, SYNTHETIC)
        assert "small 1" in target.describe() and "a FP32 2x4" in target.describe()
    assert [reply.status for reply in replies] == [Status.OK] * 2 and replies[0].bytes_received > 20
    assert server.got[0]["path"] == "/v2/models/sum/infer" and server.got[0] == server.got[1]
    assert np.frombuffer(server.got[0]["a"], np.float32).size == 8
    assert np.frombuffer(server.got[0]["b"], np.int32).size == 3
    assert server.kinds["application/octet-stream"] == 2


@pytest.mark.parametrize(("binary", "query"), [(False, ""), (True, "?data=json")])
async def test_a_request_is_json_where_the_server_or_the_url_says_so(binary: bool, query: str) -> None:
    async with serving(binary=binary) as (server, url):
        (reply,) = await asked(open_target(f"{url}/sum/3{query}", TargetOptions(in_flight=1)), SYNTHETIC)
    assert reply.status is Status.OK
    assert server.got[0]["path"] == "/v2/models/sum/versions/3/infer"
    assert len(server.got[0]["a"]) == 4 and len(server.got[0]["b"]) == 3
    assert server.kinds["application/json"] == 1


async def test_a_file_is_a_whole_request_or_the_one_inputs_data() -> None:
    whole = {"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1, 1], "data": ["abc"]}]}
    own = Payload(json.dumps(whole).encode(), name="own.json", content_type="application/json")
    jpeg = Payload(b"\xff\xd8 a picture", name="a.jpg", content_type="image/jpeg")
    wrapped = Payload(b"SM container", raw=b"\xff\xd8 raw", name="frame", content_type="image/jpeg")
    async with serving(binary=True) as (server, url):
        replies = await asked(open_target(f"{url}/jpeg", TargetOptions(in_flight=1)), own, jpeg, wrapped)
    assert [reply.status for reply in replies] == [Status.OK] * 3
    data = sorted(str(got["file"]) for got in server.got)
    assert data == sorted([str(["abc"]), str(b"\x0c\0\0\0\xff\xd8 a picture"), str(b"\x06\0\0\0\xff\xd8 raw")])


async def test_what_does_not_fit_and_what_the_server_refuses_are_errors_by_class() -> None:
    wrong = Payload(b'{"inputs": [{"name": "z", "datatype": "FP16"}]}', content_type="application/json")
    short = Payload(b"abc", name="short.bin")
    async with serving(binary=True) as (_, url):
        replies = await asked(open_target(f"{url}/half", TargetOptions(in_flight=1)), wrong, short, SYNTHETIC)
    assert replies[0][:2] == (Status.ERROR, "http 400")
    assert replies[1][:2] == (Status.ERROR, "payload does not fit the model")
    assert replies[2].status is Status.OK


async def test_half_precision_needs_a_server_that_takes_bytes() -> None:
    async with serving(binary=False) as (_, url):
        (reply,) = await asked(open_target(f"{url}/half", TargetOptions(in_flight=1)), SYNTHETIC)
    assert reply[:2] == (Status.ERROR, "payload does not fit the model")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nothing", "no model nothing"),
        ("", "kserve://host"),
        ("sum?shape=a", "no shape"),
        ("sum?shape=z:1", "input z"),
    ],
)
async def test_a_model_that_is_not_there_is_said_before_the_run(path: str, says: str) -> None:
    async with serving(binary=True) as (_, url):
        with pytest.raises(TargetError, match=says):
            target = open_target(f"{url}/{path}", TargetOptions(in_flight=1))
            await target.open()


async def test_nobody_there_is_said() -> None:
    with pytest.raises(TargetError, match="refused"):
        await open_target("kserve://127.0.0.1:1/m", TargetOptions()).open()
