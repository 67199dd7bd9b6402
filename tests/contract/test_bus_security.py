"""TLS, client certificates and credentials against a real nats-server: what connects, what must not, what rotates."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_bus_nats import until

from splitmesh.bus import nats
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.security import NO_SECURITY, Security, SecurityError
from splitmesh.bus.server import EmbeddedServer
from splitmesh.errors import BusUnavailable

PASSWORD = "correct-horse"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path, name: str) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    openssl(folder, "req", "-x509", *key, "-subj", f"/CN={name}", "-days", "2", "-out", f"{name}.pem")


def make_certificate(folder: Path, name: str, *, authority: str) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
    openssl(folder, "req", *key, "-subj", f"/CN={name}", "-out", f"{name}.csr")
    (folder / f"{name}.ext").write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    signing = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial", "-extfile", f"{name}.ext")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signing, "-days", "2", "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Authorities `ca` and `other`; certificates `server` and `client` of the first, `stranger` of the second."""
    folder = tmp_path_factory.mktemp("pki")
    for name in ("ca", "other"):
        make_authority(folder, name)
    make_certificate(folder, "server", authority="ca")
    make_certificate(folder, "client", authority="ca")
    make_certificate(folder, "stranger", authority="other")
    return folder


@contextlib.asynccontextmanager
async def broker(
    folder: Path, *lines: str, pki: Path | None = None, verify: bool = False
) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(store=folder / "nats", extra=[*tls_lines(pki, verify), *lines])
    async with server:
        yield server


def tls_lines(pki: Path | None, verify: bool) -> list[str]:
    if pki is None:
        return []
    files = f'cert_file: "{pki}/server.pem", key_file: "{pki}/server.key", ca_file: "{pki}/ca.pem"'
    return [f"tls {{ {files}, verify: {str(verify).lower()}, timeout: 5 }}"]


def login_line(password: str = PASSWORD) -> str:
    return f'authorization {{ user: "edge", password: "{password}" }}'


@contextlib.asynccontextmanager
async def connected(url: str, security: Security) -> AsyncIterator[NatsBus]:
    bus = await connect_nats(url, name="test", security=security, give_up_s=10)
    try:
        yield bus
    finally:
        await bus.drain()


def secure(server: EmbeddedServer) -> str:
    return f"tls://127.0.0.1:{server.port}"


async def test_tls_with_the_right_authority_carries_messages(tmp_path: Path, pki: Path) -> None:
    async with broker(tmp_path, pki=pki) as server, connected(secure(server), Security(ca=pki / "ca.pem")) as bus:
        await bus.echo(timeout_s=5)


@pytest.mark.parametrize("security", [NO_SECURITY, "other"], ids=["the system's authorities", "another authority"])
async def test_a_broker_of_another_authority_is_refused(tmp_path: Path, pki: Path, security: Security | str) -> None:
    chosen = Security(ca=pki / "other.pem") if isinstance(security, str) else security
    async with broker(tmp_path, pki=pki) as server:
        with pytest.raises(BusUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await connect_nats(secure(server), name="x", security=chosen, give_up_s=1.5)


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_no_password_goes_to_a_broker_without_tls(tmp_path: Path, pki: Path, scheme: str) -> None:
    """Who sits between could claim that there is no TLS: it must get nothing, whatever the URL's scheme says."""
    heard = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"X","version":"2.10.0","auth_required":true,"max_payload":1000}\r\n')
        with contextlib.suppress(OSError):
            heard.extend(await reader.read(4096))
        writer.close()

    (creds := tmp_path / "creds").write_text(f"edge:{PASSWORD}\n")
    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        with pytest.raises(BusUnavailable, match="offers no TLS"):
            await connect_nats(url, name="x", security=Security(ca=pki / "ca.pem", creds=creds), give_up_s=1.0)
    assert not heard


async def test_a_verifying_broker_takes_only_certificates_of_its_authority(tmp_path: Path, pki: Path) -> None:
    mine = Security(ca=pki / "ca.pem", cert=pki / "client.pem", key=pki / "client.key")
    strange = Security(ca=pki / "ca.pem", cert=pki / "stranger.pem", key=pki / "stranger.key")
    async with broker(tmp_path, pki=pki, verify=True) as server:
        async with connected(secure(server), mine) as bus:
            await bus.echo(timeout_s=5)
        for refused in (strange, Security(ca=pki / "ca.pem")):
            with pytest.raises(BusUnavailable):
                await connect_nats(secure(server), name="x", security=refused, give_up_s=1.0)


async def test_credentials_of_a_file_are_used_and_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (creds := tmp_path / "creds").write_text(f"edge:{PASSWORD}\n")
    (wrong := tmp_path / "wrong").write_text("edge:hunter2\n")
    async with broker(tmp_path, login_line()) as server:
        async with connected(server.url, Security(creds=creds)) as bus:
            await bus.echo(timeout_s=5)
            shown = repr(bus)
        with pytest.raises(BusUnavailable, match="Authorization Violation") as caught:
            await connect_nats(server.url, name="x", security=Security(creds=wrong), give_up_s=1.0)
    told = shown + caplog.text + str(caught.value)
    assert PASSWORD not in told and "hunter2" not in told


async def test_a_rotated_password_holds_from_the_next_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "RECONNECT_WAIT_S", (0.01, 0.02))
    (creds := tmp_path / "creds").write_text(f"edge:{PASSWORD}\n")
    async with broker(tmp_path, login_line()) as server, connected(server.url, Security(creds=creds)) as bus:
        await server.stop()
        await until(lambda: not bus.connected)
        server.extra = [login_line("changed")]
        creds.write_text("")  # caught half-way: must end no client
        await server.start()
        creds.write_text("edge:changed\n")
        await until(lambda: bus.connected)
        await bus.echo(timeout_s=5)


async def test_a_killed_broker_is_found_again_over_tls(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "RECONNECT_WAIT_S", (0.01, 0.02))
    async with broker(tmp_path, pki=pki) as server, connected(secure(server), Security(ca=pki / "ca.pem")) as bus:
        for _ in range(3):
            server.kill()
            for _ in range(100):  # bytes on their way when it goes
                with contextlib.suppress(BusUnavailable):
                    await bus.publish("a.b", b"x" * 1000)
            await until(lambda: not bus.connected)
            assert bus.pending_bytes == 0
            await server.start()
            await until(lambda: bus.connected)
            await bus.echo(timeout_s=5)


async def test_a_rotated_authority_holds_from_the_next_connection(
    tmp_path: Path, pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "RECONNECT_WAIT_S", (0.01, 0.02))
    (trusted := tmp_path / "trusted.pem").write_bytes((pki / "ca.pem").read_bytes())
    async with broker(tmp_path, pki=pki) as server, connected(secure(server), Security(ca=trusted)) as bus:
        await server.stop()
        await until(lambda: not bus.connected)
        stranger = f'cert_file: "{pki}/stranger.pem", key_file: "{pki}/stranger.key"'
        server.extra = [f"tls {{ {stranger}, timeout: 5 }}"]
        await server.start()
        trusted.write_bytes((pki / "other.pem").read_bytes())
        await until(lambda: bus.connected)


@pytest.mark.parametrize(
    ("content", "matches"),
    [
        (None, "No such file"),
        ("", "no credentials that NATS knows"),
        ("only-a-word", "no credentials that NATS knows"),
        ("edge:hunter2\nedge:hunter3", "no credentials that NATS knows"),
    ],
)
async def test_unusable_credentials_are_told_at_once(tmp_path: Path, content: str | None, matches: str) -> None:
    path = tmp_path / "creds"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SecurityError, match=matches) as caught:
        await connect_nats("nats://127.0.0.1:1", name="x", security=Security(creds=path))
    assert caught.value.path == path and not caught.value.retryable
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "security",
    [
        lambda pki: Security(ca=pki / "absent.pem"),
        lambda pki: Security(ca=pki / "ca.key"),
        lambda pki: Security(cert=pki / "client.pem", key=pki / "server.key"),
        lambda pki: Security(key=pki / "client.key"),
    ],
    ids=["absent", "a key instead", "not its key", "a key alone"],
)
async def test_unusable_certificates_are_told_at_once(pki: Path, security: object) -> None:
    assert callable(security)
    with pytest.raises(SecurityError, match=r"\.(pem|key)"):
        await connect_nats("nats://127.0.0.1:1", name="x", security=security(pki))


async def test_an_nkey_logs_in(tmp_path: Path) -> None:
    nkeys = pytest.importorskip("nkeys", reason="needs the package nkeys, which splitmesh does not depend on")
    pair = nkeys.from_seed(bytearray(SEED))
    (creds := tmp_path / "seed").write_bytes(SEED)
    line = f"authorization {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}"
    async with broker(tmp_path, line) as server, connected(server.url, Security(creds=creds)) as bus:
        await bus.echo(timeout_s=5)


SEED = b"SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
"""The example seed of the nkeys documentation; it guards nothing."""
