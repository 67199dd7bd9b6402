"""Certificates, passwords and accounts of the compose mesh: kept, rotated; two real brokers live by them."""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tools.compose_state import StateError, make_state, place_video, read_env

from splitmesh.bus.base import Message
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.security import Security
from splitmesh.bus.server import find_server
from splitmesh.errors import BusUnavailable, NoResponders, RequestTimeout
from splitmesh.gateway.tokens import Tokens
from splitmesh.wire import subjects

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
TOOL = COMPOSE.parents[1] / "tools" / "compose_state.py"
READY_S = 20.0


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compose") / "state"
    make_state(folder, tenant="acme")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_there_is_kept_and_rotation_changes_all_of_it(tmp_path: Path) -> None:
    make_state(tmp_path / "state", tenant="acme")
    first = contents(tmp_path / "state")
    make_state(tmp_path / "state", tenant="acme")
    assert contents(tmp_path / "state") == first
    make_state(tmp_path / "state", tenant="acme", rotate=True)
    rotated = contents(tmp_path / "state")
    assert set(rotated) == set(first)
    assert not [name for name in first if rotated[name] == first[name]]


def test_another_tenant_keeps_the_passwords(state: Path, tmp_path: Path) -> None:
    make_state(tmp_path / "state", tenant="acme")
    before = contents(tmp_path / "state")
    make_state(tmp_path / "state", tenant="zeta")
    after = contents(tmp_path / "state")
    assert after["edge/creds"] == before["edge/creds"]
    assert b"sm.v1.zeta." in after["hub/accounts.conf"] and b"acme" not in after["hub/accounts.conf"]


def test_nobody_else_on_the_machine_can_look(state: Path) -> None:
    assert state.stat().st_mode & 0o777 == 0o700
    for private in ("passwords.json", "token", "authority/ca.key"):
        assert (state / private).stat().st_mode & 0o077 == 0


def test_the_token_opens_the_gateway_for_the_tenant(state: Path) -> None:
    tokens = Tokens(state / "gateway" / "tokens.toml")
    token = (state / "token").read_text("ascii").strip()
    assert (account := tokens.account(token)) is not None and account.tenant == "acme"
    assert token not in (state / "gateway" / "tokens.toml").read_text("ascii")


@pytest.mark.parametrize("tenant", ["", "a.b", "a b", "*", "x" * 65, 'a"'])
def test_a_tenant_that_no_subject_can_hold_is_refused(tmp_path: Path, tenant: str) -> None:
    with pytest.raises(StateError, match="TENANT"):
        make_state(tmp_path / "state", tenant=tenant)


def test_the_environment_wins_over_the_file_and_a_video_that_is_not_there_is_told(tmp_path: Path) -> None:
    (env := tmp_path / ".env").write_text("TENANT=acme\n# VIDEO=/x\nVIDEO='/nowhere/clip.mp4'\n", "utf-8")
    assert read_env(env.read_text("utf-8")) == {"TENANT": "acme", "VIDEO": "/nowhere/clip.mp4"}
    command = [sys.executable, TOOL, "--env", env, "--state", tmp_path / "state"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TENANT": "zeta"}, timeout=60)
    assert done.returncode == 1 and "VIDEO /nowhere/clip.mp4 is no file" in done.stderr
    assert "sm.v1.zeta." in (tmp_path / "state" / "hub" / "accounts.conf").read_text("utf-8")


def test_another_video_takes_the_place_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    (tmp_path / "b").write_bytes(b"the second")
    for name, wanted in (("a", b"first"), ("b", b"the second")):
        place_video(tmp_path / "media", str(tmp_path / name))
        assert (tmp_path / "media" / "sample").read_bytes() == wanted


def test_every_subject_that_there_is_is_somebodys_to_publish_and_to_hear(state: Path) -> None:
    """A subject that is new in `wire.subjects` is missing here until accounts and this table know it."""
    t = "acme"
    work = [subjects.infer(t, "m", ""), subjects.worker(t, "w"), subjects.table(t, "w"), subjects.cancel(t)]
    keep = f"sm.v1.{t}.keep"
    told = [subjects.result(t, "e"), subjects.preview(t, "e"), subjects.status(t, "e"), subjects.agents(t, "a")]
    spans, load = subjects.spans(t, "w"), subjects.load(t)
    commands = [subjects.command(t, "e"), subjects.agent(t, "a")]
    table = {
        "worker": ([load], [*work, keep, spans]),
        "edge": ([*work, keep, *told], [load, *commands]),
        "leaf": ([*work, keep, *told], [load, *commands]),
        "gateway": ([*work, spans, *commands], [load, *told]),
    }
    known = {name for name, each in vars(subjects).items() if inspect.isfunction(each) and not name.startswith("_")}
    assert known - {"check_token", "statuses", "lab"} <= {  # no lab is part of it
        "infer", "worker", "table", "cancel", "keep", "result", "preview", "status", "spans", "command", "load",
        "agent", "agents",
    }  # fmt: skip
    text = "".join((state / name / "accounts.conf").read_text("utf-8") for name in ("hub", "leaf"))
    for user, wanted in table.items():
        found = re.search(rf"user: {user}, .*?publish: (\[.*?\]), subscribe: (\[.*?\])", text)
        assert found is not None
        for allowed, subject_list in zip(found.groups(), wanted, strict=True):
            for subject in subject_list:
                assert any(covers(pattern, subject) for pattern in json.loads(allowed)), f"{user}: {subject}"


def covers(pattern: str, subject: str) -> bool:
    """NATS subject grammar: `*` is one token, `>` the rest."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+"), subject) is not None


# -- two real brokers ------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Brokers:
    """Hub and leaf with the files of the compose mesh, on ports of this machine."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.hub_port, self.leafnodes, self.hub_monitor, self.leaf_port, self.leaf_monitor = free_ports(5)
        self._state, self._folder = state, folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        hub = {"4222": self.hub_port, "8222": self.hub_monitor, "7422": self.leafnodes}
        self._start("hub", hub)
        self._start("leaf", {"4222": self.leaf_port, "8222": self.leaf_monitor})
        until = time.monotonic() + READY_S
        while not self._joined():
            assert time.monotonic() < until, (self._folder / "leaf" / "log").read_text("utf-8")
            assert all(process.poll() is None for process in self.processes), "a broker does not take its file"
            time.sleep(0.05)

    def _start(self, name: str, ports: dict[str, int]) -> None:
        folder = self._folder / name
        (folder / "secrets").mkdir(parents=True)
        text = (COMPOSE / "nats" / f"{name}.conf").read_text("utf-8")
        accounts = (self._state / name / "accounts.conf").read_text("utf-8")
        accounts = accounts.replace("@link:7422", f"@localhost:{self.leafnodes}")
        for port, ours in ports.items():
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{ours}")
        text = text.replace("/var/lib/splitmesh", str(folder))
        for file, content in (("nats.conf", text), ("secrets/accounts.conf", accounts)):
            (folder / file).write_text(content.replace("/etc/nats/secrets", str(self._state / name)), "utf-8")
        with (folder / "log").open("wb") as log:
            command = [find_server(), "-c", folder / "nats.conf"]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _joined(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.hub_monitor, timeout=2)
        try:
            connection.request("GET", "/leafz")
            return bool(json.loads(connection.getresponse().read())["leafnodes"])
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(10)


@pytest.fixture(scope="module")
def brokers(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    running = Brokers(state, tmp_path_factory.mktemp("brokers"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@contextlib.asynccontextmanager
async def as_service(state: Path, service: str, port: int) -> AsyncIterator[NatsBus]:
    security = Security(ca=state / service / "ca.pem", creds=state / service / "creds")
    bus = await connect_nats(f"tls://localhost:{port}", name=service, security=security, give_up_s=10)
    try:
        yield bus
    finally:
        await bus.drain()


async def eventually_answered(bus: NatsBus, subject: str) -> Message:
    """Interest reaches the other broker a moment after it was taken."""
    until = time.monotonic() + READY_S
    while True:
        try:
            return await bus.request(subject, b"ask", timeout_s=5)
        except NoResponders:
            assert time.monotonic() < until, f"nobody ever answers on {subject}"


async def test_an_edge_at_the_leaf_is_answered_by_a_worker_at_the_hub(state: Path, brokers: Brokers) -> None:
    async with (
        as_service(state, "worker", brokers.hub_port) as worker,
        as_service(state, "edge", brokers.leaf_port) as edge,
    ):

        async def answer(message: Message) -> None:
            await worker.publish(message.reply, b"answer to " + message.payload)

        await worker.subscribe("sm.v1.acme.infer.>", answer, queue="pool")
        await worker.subscribe("sm.v1.acme.worker.w-1", answer)
        for subject in ("sm.v1.acme.infer.m.whole", "sm.v1.acme.worker.w-1"):
            assert (await eventually_answered(edge, subject)).payload == b"answer to ask"


async def test_heartbeats_cross_and_what_an_edge_says_reaches_the_gateway(state: Path, brokers: Brokers) -> None:
    heard: list[tuple[str, bytes]] = []

    async def hear(message: Message) -> None:
        heard.append((message.subject, message.payload))

    async with (
        as_service(state, "worker", brokers.hub_port) as worker,
        as_service(state, "gateway", brokers.hub_port) as gateway,
        as_service(state, "edge", brokers.leaf_port) as edge,
    ):
        await edge.subscribe("sm.v1.acme.load", hear)
        await gateway.subscribe("sm.v1.acme.status.*", hear)
        wanted = {("sm.v1.acme.load", b"beat"), ("sm.v1.acme.status.e-1", b"well")}
        until = time.monotonic() + READY_S
        while set(heard) != wanted:
            assert time.monotonic() < until, heard
            await worker.publish("sm.v1.acme.load", b"beat")
            await edge.publish("sm.v1.acme.status.e-1", b"well")
            await edge.echo(timeout_s=5)

        async def obey(message: Message) -> None:
            await edge.publish(message.reply, b"done")

        await edge.subscribe("sm.v1.acme.edge.e-1", obey)
        assert (await eventually_answered(gateway, "sm.v1.acme.edge.e-1")).payload == b"done"


async def test_an_edge_can_pose_as_nobody_else(
    state: Path, brokers: Brokers, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither as a worker that takes requests, nor as another tenant."""
    async with as_service(state, "edge", brokers.leaf_port) as edge:
        await edge.subscribe("sm.v1.acme.infer.>", lambda _: None)  # type: ignore[arg-type, return-value]
        await edge.publish("sm.v1.other.infer.m.whole", b"x")
        await edge.echo(timeout_s=5)
    told = caplog.text.lower()
    assert re.search(r'permissions violation for subscription to "sm.v1.acme.infer.>"', told)
    assert re.search(r'permissions violation for publish to "sm.v1.other.infer.m.whole"', told)


@pytest.mark.parametrize("service", ["worker", "gateway"])
async def test_who_belongs_to_the_centre_is_not_let_in_at_the_site(
    state: Path, brokers: Brokers, service: str
) -> None:
    security = Security(ca=state / service / "ca.pem", creds=state / service / "creds")
    with pytest.raises(BusUnavailable, match="Authorization Violation"):
        await connect_nats(f"tls://localhost:{brokers.leaf_port}", name="x", security=security, give_up_s=1.0)


async def test_without_credentials_nobody_gets_in(state: Path, brokers: Brokers) -> None:
    for port in (brokers.hub_port, brokers.leaf_port):
        with pytest.raises((BusUnavailable, RequestTimeout)):
            security = Security(ca=state / "edge" / "ca.pem")
            await connect_nats(f"tls://localhost:{port}", name="x", security=security, give_up_s=1.0)
