"""What a gateway refuses: by whom, of whose, how large. Each refusal is named, logged and counted."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import simplejpeg
from cloud_rig import PICTURE, until, worker_on
from gateway_rig import SERVICE, Caller, caller_of, counted, gateway_on
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tls_rig import certificate_in

from splitmesh.bus.server import EmbeddedServer
from splitmesh.cloud.hosted import Hosted
from splitmesh.errors import SettingsError
from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.plan.bundle.read import Bundle
from splitmesh.schedule.tenants import Tenant
from splitmesh.v1 import gateway_pb2 as pb

JPEG = simplejpeg.encode_jpeg(np.ascontiguousarray(PICTURE), 90, "RGB", "444")
REFUSALS = "splitmesh_gateway_refusals_total"


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Of two tenants; their file is tmp_path/tokens.toml."""
    made = {"acme": new_token(), "globex": new_token()}
    text = "\n".join(entry(token, Account(tenant, f"{tenant}-app")) for tenant, token in made.items())
    (tmp_path / "tokens.toml").write_text(text)
    assert not any(token in text for token in made.values())
    return made


def details(error: grpc.aio.AioRpcError) -> tuple[str, error_details_pb2.ErrorInfo]:
    """(the status's text, its ErrorInfo)."""
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    assert status.code == error.code().value[0] and status.details[0].Unpack(info)
    return status.message, info


async def refusal(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value


async def models(caller: Caller) -> Any:
    return await caller.call("Models", pb.ModelsQuery(), pb.ModelsReply)


@pytest.mark.parametrize("shown", ["", "smt_nobodys", "x" * 5000])
async def test_without_a_known_token_nothing_is_answered(
    broker: EmbeddedServer,
    bundle: Bundle,
    tokens: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    shown: str,
) -> None:
    reason = "unknown-token" if shown else "no-token"
    async with gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway:
        async with caller_of(gateway, shown) as caller:
            for asked in (
                models(caller),
                caller.infer(encoded=JPEG),
                caller.results([pb.Frame(encoded=JPEG)]),
                caller.call("Explain", pb.FrameQuery(frame_id="a.b.1"), pb.Explanation),
            ):
                error = await refusal(asked)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert details(error)[1].reason == "ACCESS_DENIED" and details(error)[1].domain == "splitmesh"
        assert counted(gateway, REFUSALS, door="grpc", reason=reason) == 4
    assert sum(reason in record.message for record in caplog.records) == 4
    assert not shown or shown not in caplog.text


async def test_a_tenant_meets_nothing_of_another(
    broker: EmbeddedServer, bundle: Bundle, hosted: Hosted, tokens: dict[str, str], tmp_path: Path
) -> None:
    async with (
        worker_on(broker, hosted, tenants=(Tenant("acme"),)),
        gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway,
        caller_of(gateway, tokens["acme"]) as acme,
        caller_of(gateway, tokens["globex"]) as globex,
    ):
        await acme.workers()
        own = await acme.infer(encoded=JPEG, budget_ms=5000)
        assert own.WhichOneof("outcome") == "answer"
        other = await globex.infer(encoded=JPEG, budget_ms=500)
        assert other.error.code == pb.FRAME_ERROR_CODE_UNAVAILABLE and not other.worker_id
        assert not (await models(globex)).models[0].workers
        explain = pb.FrameQuery(frame_id=own.frame_id)
        told = await acme.call("Explain", explain, pb.Explanation)
        assert told.frame.frame_id == own.frame_id and told.frame.worker_id == "w-1"
        error = await refusal(globex.call("Explain", explain, pb.Explanation))
        assert error.code() is grpc.StatusCode.NOT_FOUND and details(error)[1].reason == "UNKNOWN_NAME"


@pytest.mark.parametrize("name", ["../etc", "e.acme", "*", ">", "", "a b", "x" * 65])
async def test_names_that_could_mean_other_subjects_are_refused(
    broker: EmbeddedServer, bundle: Bundle, tokens: dict[str, str], tmp_path: Path, name: str
) -> None:
    async with (
        gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway,
        caller_of(gateway, tokens["acme"]) as caller,
    ):
        error = await refusal(caller.call("Policies", pb.PolicyQuery(edge=name), pb.PolicyReply))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        error = await refusal(caller.call("Explain", pb.FrameQuery(frame_id=f"{name}.*.>"), pb.Explanation))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        call = caller.watch(pb.WatchFilter(edges=[name], kinds=[pb.WATCH_KIND_RESULTS]))
        assert (await refusal(call.read())).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_beyond_the_limit_is_refused_by_name(
    broker: EmbeddedServer, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_on(broker, bundle, max_message_bytes=50_000) as gateway, caller_of(gateway) as caller:
        error = await refusal(caller.infer(encoded=bytes(60_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "50000" in details(error)[0] and details(error)[1].reason == "PAYLOAD_TOO_LARGE"
        error = await refusal(caller.results([pb.Frame(encoded=bytes(60_000))]))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert counted(gateway, REFUSALS, door="grpc", reason="too-large") == 2
        error = await refusal(caller.infer(encoded=bytes(5_000_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # cut off by the transport
        await until(lambda: counted(gateway, REFUSALS, door="grpc", reason="no-message") == 1)
    assert sum("too-large" in record.message for record in caplog.records) == 2


async def test_no_message_of_a_stranger_is_waited_for(
    broker: EmbeddedServer, bundle: Bundle, tokens: dict[str, str], tmp_path: Path
) -> None:
    async with (
        gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway,
        caller_of(gateway, "smt_nobodys") as caller,
    ):
        for method in ("Infer", "Watch", "Policies"):
            never_sends = caller.channel.stream_stream(f"/{SERVICE}/{method}")(metadata=caller.metadata, timeout=20)
            assert (await refusal(never_sends.read())).code() is grpc.StatusCode.UNAUTHENTICATED
        assert counted(gateway, REFUSALS, door="grpc", reason="unknown-token") == 3
        assert counted(gateway, REFUSALS, door="grpc", reason="no-message") == 0


async def test_calls_whose_message_never_comes_are_as_many_as_calls_may_be(
    broker: EmbeddedServer, bundle: Bundle
) -> None:
    async with gateway_on(broker, bundle, max_calls=2) as gateway, caller_of(gateway) as caller:
        open_call = caller.channel.stream_stream(f"/{SERVICE}/Infer")
        waiting = [open_call() for _ in range(2)]
        for call in waiting:
            await call.wait_for_connection()
        error = await refusal(models(caller))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and details(error)[1].reason == "OVERLOADED"
        assert counted(gateway, REFUSALS, door="grpc", reason="crowded") == 1
        for call in waiting:
            call.cancel()
        await until(lambda: counted(gateway, REFUSALS, door="grpc", reason="no-message") == 2)
        assert (await models(caller)).models


async def test_bytes_that_are_no_message_are_refused(broker: EmbeddedServer, bundle: Bundle) -> None:
    async with gateway_on(broker, bundle) as gateway, caller_of(gateway) as caller:
        error = await refusal(caller.channel.unary_unary(f"/{SERVICE}/Infer")(b"\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and "Frame" in details(error)[0]
        assert counted(gateway, REFUSALS, door="grpc", reason="malformed") == 1


async def test_a_token_that_is_taken_back_is_nobodys_and_a_new_one_opens(
    broker: EmbeddedServer, bundle: Bundle, tokens: dict[str, str], tmp_path: Path
) -> None:
    later = new_token()
    async with (
        gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway,
        caller_of(gateway, tokens["acme"]) as before,
        caller_of(gateway, later) as after,
    ):
        await models(before)
        (tmp_path / "tokens.toml").write_text(entry(later, Account("initech", "new")))
        await until(lambda: gateway.tenants == ["initech"])
        assert (await refusal(models(before))).code() is grpc.StatusCode.UNAUTHENTICATED
        await models(after)
        (tmp_path / "tokens.toml").write_text("[[token]]\ntenant = 'no'\n")  # a slip keeps what was known
        await models(after)


@pytest.mark.parametrize("key", ["grpc_host", "web_host"])
async def test_it_stays_on_this_machine_without_tokens(
    broker: EmbeddedServer, bundle: Bundle, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        async with gateway_on(broker, bundle, **{key: "0.0.0.0"}):
            pass
    assert caught.value.key == key
    async with gateway_on(broker, bundle):
        assert any("OPEN" in r.message and r.levelno == logging.WARNING for r in caplog.records)


async def test_health_and_reflection_ask_for_no_token(
    broker: EmbeddedServer, bundle: Bundle, tokens: dict[str, str], tmp_path: Path
) -> None:
    async with (
        gateway_on(broker, bundle, tokens=tmp_path / "tokens.toml") as gateway,
        caller_of(gateway) as caller,
    ):
        check = caller.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        for service in ("", SERVICE, "inference.GRPCInferenceService"):
            told = await check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
            assert told.status == health_pb2.HealthCheckResponse.SERVING
        assert counted(gateway, REFUSALS, door="grpc", reason="no-message") == 0
        ask = caller.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed = [told async for told in ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))]
        names = {service.name for service in listed[0].list_services_response.service}
        assert {SERVICE, "inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


async def test_tls_and_client_certificates(broker: EmbeddedServer, bundle: Bundle, tmp_path: Path) -> None:
    certificate_in(tmp_path)
    (tmp_path / "client").mkdir()
    client = certificate_in(tmp_path / "client").parent
    certificate, key = (tmp_path / "cert.pem").read_bytes(), (tmp_path / "key.pem").read_bytes()
    files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    trusting = grpc.ssl_channel_credentials(certificate)
    known = grpc.ssl_channel_credentials(
        certificate, (client / "key.pem").read_bytes(), (client / "cert.pem").read_bytes()
    )
    assert key

    async def asked(gateway: Any, credentials: Any) -> Any:
        async with grpc.aio.secure_channel(f"127.0.0.1:{gateway.grpc_port}", credentials) as channel:
            return await models(Caller(channel))

    async with gateway_on(broker, bundle, **files) as gateway:
        assert (await asked(gateway, trusting)).models
        async with caller_of(gateway) as in_the_clear:
            assert (await refusal(models(in_the_clear))).code() is grpc.StatusCode.UNAVAILABLE
    async with gateway_on(broker, bundle, **files, client_ca=client / "cert.pem") as gateway:
        assert (await asked(gateway, known)).models
        assert (await refusal(asked(gateway, trusting))).code() is grpc.StatusCode.UNAVAILABLE


def test_a_token_is_made_by_the_command_and_shown_once(tmp_path: Path, project: Path) -> None:
    file = tmp_path / "tokens.toml"
    command = [str(project / ".venv/bin/splitmesh"), "gateway", "token", "acme", "--name", "app", "--file", str(file)]
    made = [subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout for _ in range(2)]
    assert made[0] != made[1] and file.stat().st_mode & 0o077 == 0
    from splitmesh.gateway.tokens import Tokens

    known = Tokens(file)
    assert [known.account(token.strip()) for token in made] == [Account("acme", "app")] * 2
    assert known.account("smt_other") is None and not any(token.strip() in file.read_text() for token in made)
