"""The chart's brokers as real servers: with its configuration, its Secrets, and the test that it brings along."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from helm_brokers import READY_S, Brokers
from helm_chart import CHART, PROJECT, Manifest, named, rendered
from tools.chart_secrets import broker_names, fullname, secret_files

from splitmesh.bus.base import Message
from splitmesh.bus.nats import NatsBus, connect_nats
from splitmesh.bus.security import Security
from splitmesh.errors import BusUnavailable, NoResponders, RequestTimeout
from splitmesh.wire import subjects

TENANTS = ("gates", "back-yard")
ELSEWHERE = {"lab", "agent", "agents"}
"""Subjects of programs that the chart does not start."""
VALUES = [
    "--set-json", 'tenants={"default": null, "gates": {}, "back-yard": {}}',
    "--set-json", 'edgePools={"a": {"tenant": "gates", "settings": {"source": "x"}}}',
]  # fmt: skip


@pytest.fixture(scope="module")
def chart() -> list[Manifest]:
    return rendered(VALUES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The Secrets of the chart, by key. A password that looks like a number must stay what it is."""
    state = tmp_path_factory.mktemp("secrets") / "state"
    state.mkdir()
    (state / "passwords.json").write_text(
        json.dumps({"gates-edge": "12e5", "worker": "2026-11-24", "gates-leaf": "7k"})
    )
    hosts = broker_names(fullname("splitmesh"), "mesh")
    return secret_files(state, tenants=TENANTS, hosts=hosts)


@pytest.fixture(scope="module")
def brokers(
    chart: list[Manifest], made: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Brokers]:
    running = Brokers(chart, made, tmp_path_factory.mktemp("brokers"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def login(made: dict[str, dict[str, str]], key: str, folder: Path) -> Security:
    (folder / "ca.crt").write_text(made["ca"]["ca.crt"], "ascii")
    (folder / key).write_text(made[key]["creds"], "ascii")
    return Security(ca=folder / "ca.crt", creds=folder / key)


@contextlib.asynccontextmanager
async def as_user(made: dict[str, dict[str, str]], key: str, port: int, folder: Path) -> AsyncIterator[NatsBus]:
    bus = await connect_nats(
        f"tls://localhost:{port}", name=key, security=login(made, key, folder), give_up_s=READY_S
    )
    try:
        yield bus
    finally:
        await bus.drain()


@contextlib.asynccontextmanager
async def beside_leaf(brokers: Brokers) -> AsyncIterator[NatsBus]:
    """As the edge in the leaf's pod: no TLS, no login, over loopback."""
    bus = await connect_nats(f"nats://127.0.0.1:{brokers.leaf_port}", name="edge", give_up_s=READY_S)
    try:
        yield bus
    finally:
        await bus.drain()


async def answered(bus: NatsBus, subject: str) -> bytes:
    """Interest reaches the other broker a moment after it was taken."""
    until = time.monotonic() + READY_S
    while True:
        try:
            return bytes((await bus.request(subject, b"ask", timeout_s=5)).payload)
        except NoResponders:
            assert time.monotonic() < until, f"nobody ever answers on {subject}"


async def test_an_edge_beside_its_leaf_is_answered_by_a_worker_at_the_hub(
    brokers: Brokers, made: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    async with as_user(made, "worker", brokers.hub_port, tmp_path) as worker, beside_leaf(brokers) as edge:

        async def answer(message: Message) -> None:
            await worker.publish(message.reply, b"answer to " + message.payload)

        await worker.subscribe("sm.v1.gates.infer.>", answer, queue="pool")
        await worker.subscribe("sm.v1.gates.worker.w-1", answer)
        assert await answered(edge, "sm.v1.gates.infer.m.whole") == b"answer to ask"
        assert await answered(edge, "sm.v1.gates.worker.w-1") == b"answer to ask"


async def test_tenants_do_not_meet(brokers: Brokers, made: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """Both log in, each works on its own subjects, and neither is answered on the other's."""
    async with (
        as_user(made, "worker", brokers.hub_port, tmp_path) as worker,
        as_user(made, "edge-gates", brokers.hub_port, tmp_path) as gates,
        as_user(made, "edge-back-yard", brokers.hub_port, tmp_path) as yard,
    ):

        async def answer(message: Message) -> None:
            await worker.publish(message.reply, message.subject.encode())

        await worker.subscribe("sm.v1.gates.infer.>", answer)
        await worker.subscribe("sm.v1.back-yard.infer.>", answer)
        assert await answered(gates, "sm.v1.gates.infer.m.whole") == b"sm.v1.gates.infer.m.whole"
        assert await answered(yard, "sm.v1.back-yard.infer.m.whole") == b"sm.v1.back-yard.infer.m.whole"
        with pytest.raises((NoResponders, RequestTimeout)):
            await yard.request("sm.v1.gates.infer.m.whole", b"ask", timeout_s=0.5)


async def test_a_wrong_password_is_not_let_in(
    brokers: Brokers, made: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    forged = made | {"worker": {"creds": "worker:2026-11-25\n"}}
    with pytest.raises(BusUnavailable, match="Authorization Violation"):
        await connect_nats(
            f"tls://localhost:{brokers.hub_port}", name="x", security=login(forged, "worker", tmp_path), give_up_s=1.0
        )


async def run_chart_test(brokers: Brokers, made: dict[str, dict[str, str]], folder: Path, patience_s: float) -> str:
    """`helm test`'s program as its pod runs it, beside this loop; what it says."""
    login(made, "gateway-gates", folder)
    program = (CHART / "files" / "heard.py").read_text("utf-8").replace("_S = 60.0", f"_S = {patience_s}")
    variables = {
        "SPLITMESH_NATS_URL": f"tls://localhost:{brokers.hub_port}", "SPLITMESH_NATS_CA": str(folder / "ca.crt"),
        "SPLITMESH_NATS_CREDS": str(folder / "gateway-gates"), "TENANT": "gates",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    return f"{process.returncode} {said.decode()}"


async def test_the_charts_own_test_passes_when_a_worker_is_heard_and_fails_when_none_is(
    brokers: Brokers, made: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    assert re.match(r"1 .*no worker was heard", await run_chart_test(brokers, made, tmp_path, 0.5), re.S)
    async with as_user(made, "worker", brokers.hub_port, tmp_path) as worker:

        async def beat() -> None:
            while True:
                await worker.publish(subjects.load("gates"), b"beat")
                await asyncio.sleep(0.05)

        beating = asyncio.create_task(beat())
        said = await run_chart_test(brokers, made, tmp_path, 30.0)
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
    assert said.startswith("0 ") and "connected, and a worker was heard" in said, said


def test_every_subject_is_somebodys_to_publish_and_to_hear(chart: list[Manifest]) -> None:
    """A subject that is new in `wire.subjects` is missing here until the chart's accounts and this table know it."""
    t = "gates"
    work = [subjects.infer(t, "m", ""), subjects.worker(t, "w"), subjects.table(t, "w"), subjects.cancel(t),
            subjects.keep(t)]  # fmt: skip
    told = [subjects.result(t, "e"), subjects.preview(t, "e"), subjects.status(t, "e")]
    spans, command, load = subjects.spans(t, "w"), subjects.command(t, "e"), subjects.load(t)
    table = {
        "worker": ([load], [*work, spans]),
        "gates-leaf": ([*work, *told], [load, command]),
        "gates-edge": ([*work, *told], [load, command]),
        "gates-gateway": ([*work, spans, command], [load, *told]),
    }
    known = {name for name, each in vars(subjects).items() if inspect.isfunction(each) and not name.startswith("_")}
    assert known - {"check_token", "statuses"} - ELSEWHERE == {
        "infer", "worker", "table", "cancel", "keep", "result", "preview", "status", "spans", "command", "load",
    }  # fmt: skip
    text = named(chart, "ConfigMap", "splitmesh-broker")["data"]["nats.conf"]
    for user, wanted in table.items():
        found = re.search(rf"user: {user}, .*?publish: (\[.*?\])\s+subscribe: (\[.*?\])", text, re.S)
        assert found is not None, user
        for patterns, subject_list in zip(found.groups(), wanted, strict=True):
            for subject in subject_list:
                assert any(covers(pattern, subject) for pattern in json.loads(patterns)), f"{user}: {subject}"
            assert not any("back-yard" in pattern for pattern in json.loads(patterns)) or user == "worker"


def covers(pattern: str, subject: str) -> bool:
    """NATS subject grammar: `*` is one token, `>` the rest."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+"), subject) is not None


# -- the Secrets ------------------------------------------------------------------------------------------------


def secrets_command(*arguments: str | Path) -> dict[str, dict[str, str]]:
    command = [sys.executable, "-m", "tools.chart_secrets", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.returncode == 0, done.stderr
    return {each["metadata"]["name"]: each["data"] for each in json.loads(done.stdout)["items"]}


def test_the_secrets_that_pods_name_are_those_that_the_command_makes(chart: list[Manifest], tmp_path: Path) -> None:
    items = secrets_command("--state", tmp_path / "s", "--namespace", "mesh", "--tenants", ",".join(TENANTS))
    text = json.dumps(chart)
    wanted = set(re.findall(r'"secretName": "([^"]+)"', text))
    wanted |= set(re.findall(r'"secretKeyRef": \{[^}]*"name": "([^"]+)"', text))
    assert wanted and wanted <= set(items)
    for name, key in re.findall(r'"secretKeyRef": \{"name": "([^"]+)", "key": "([^"]+)"\}', text):
        assert base64.b64decode(items[name][key])


def test_another_tenant_changes_nothing_that_is_there_and_rotation_all(tmp_path: Path) -> None:
    first = secrets_command("--state", tmp_path / "s", "--tenants", "a")
    second = secrets_command("--state", tmp_path / "s", "--tenants", "a,b")
    users = {name: data for name, data in first.items() if name != "splitmesh-broker-users"}
    assert {name: second[name] for name in users} == users
    assert first["splitmesh-broker-users"].items() <= second["splitmesh-broker-users"].items()
    third = secrets_command("--state", tmp_path / "s", "--tenants", "a,b", "--rotate", "--without", "ca,leaf-tls")
    assert set(second) - set(third) == {"splitmesh-ca", "splitmesh-leaf-tls"}
    assert all(third[name][file] != second[name][file] for name in third for file in third[name])
