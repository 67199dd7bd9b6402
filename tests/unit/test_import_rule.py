"""Walks every import of the package, lazy ones included, and holds it against the table of layers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "services" / "splitmesh"

CORE = frozenset({"frames", "policy", "schedule", "codec", "plan", "wire"})
ADAPTERS = frozenset({"bus", "media", "inference", "models", "telemetry", "web", "settings", "rpc", "process"})
DEPLOYABLES = frozenset({"edge", "cloud", "gateway", "agent", "lab", "sim", "cli"})
PURE = CORE | {"sim"}
"""What reads no clock, environment, socket or thread: the simulator has a clock of its own."""
LAYERS = CORE | ADAPTERS | DEPLOYABLES | {"provision", "client"}
GENERATED = frozenset({"wire", "plan", "rpc", "gateway", "client"})
"""What may import `v1`, the code that follows from proto/."""

INTERNAL: dict[str, frozenset[str]] = {
    **dict.fromkeys(CORE, CORE),
    **{layer: CORE | {layer, "telemetry"} for layer in ADAPTERS},
    "provision": CORE | ADAPTERS | {"provision"},
    "client": CORE | {"client"},
    **{layer: CORE | ADAPTERS | {layer, "provision"} for layer in DEPLOYABLES},
    "sim": CORE | {"settings", "provision", "sim"},
    "cli": LAYERS,
}
"""Which folders of the package a folder may import. `errors` is open to all, `v1` (generated) to `GENERATED`.

`provision` is what deployables share: adapters put together to get a plan ready. The lab starts edge and worker as
processes and so imports neither; the simulator runs the core on virtual time, and of the rest takes only what says
how a link behaves; `cli` starts all of them. `client` runs in other people's programs."""

THIRD_PARTY: dict[str, frozenset[str]] = {
    "frames": frozenset({"numpy"}),
    "policy": frozenset({"numpy"}),
    "schedule": frozenset({"numpy"}),
    "codec": frozenset({"numpy", "blosc2", "simplejpeg"}),
    "plan": frozenset({"numpy", "onnx", "pydantic", "scipy", "google"}),
    "wire": frozenset({"numpy", "google"}),
    "bus": frozenset({"nats", "nats_server"}),
    "media": frozenset({"numpy", "av", "PIL"}),
    "inference": frozenset({"numpy", "onnx", "onnxruntime"}),
    "models": frozenset({"numpy", "onnx", "platformdirs", "pydantic"}),
    "telemetry": frozenset({"opentelemetry", "prometheus_client", "rich"}),
    "web": frozenset({"starlette", "uvicorn", "prometheus_client"}),
    "settings": frozenset({"pydantic", "pydantic_core", "click", "platformdirs"}),
    "rpc": frozenset({"grpc", "grpc_health", "grpc_reflection", "grpc_status", "google"}),
    "client": frozenset({"numpy", "grpc", "google", "simplejpeg"}),
    "process": frozenset(),
    "provision": frozenset({"numpy", "threadpoolctl"}),
    "edge": frozenset({"numpy", "psutil"}),
    "cloud": frozenset({"numpy", "psutil"}),
    "gateway": frozenset({"numpy", "google", "simplejpeg", "PIL", "starlette", "prometheus_client"}),
    "agent": frozenset({"prometheus_client"}),
    "lab": frozenset({"numpy", "psutil", "rich", "matplotlib", "prometheus_client", "click"}),
    "sim": frozenset({"numpy"}),
    "cli": frozenset({"numpy", "click", "rich", "prometheus_client", "psutil", "platformdirs", "matplotlib"}),
}

IMPURE = frozenset(
    {"asyncio", "threading", "multiprocessing", "concurrent", "subprocess", "time", "socket", "ssl", "http", "urllib"}
    | {"signal", "select", "selectors", "random", "secrets", "logging"}
)
"""Standard modules through which what is pure would reach the world outside."""

IMPURE_NAMES = frozenset({"os.environ", "os.getenv", "os.urandom", "datetime.now", "datetime.utcnow", "uuid.uuid4"})
"""The same by attribute, in modules whose other names it may use."""


class Import(NamedTuple):
    line: int
    module: str


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Every module that any statement of `tree`, at any depth, imports; relative ones resolved against `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "splitmesh" or not node.module:
                yield from (Import(node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield Import(node.lineno, module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield Import(node.lineno, first.value)


def violations(source: str, layer: str, package: str) -> list[str]:
    """What a module of `layer` imports or touches against the table: `line: what`."""
    tree = ast.parse(source)
    found = []
    for line, module in imports(tree, package):
        root, _, rest = module.partition(".")
        if root == "splitmesh":
            target = rest.partition(".")[0]
            allowed = target in INTERNAL[layer] | {"errors", "", "__version__"} or (
                target == "v1" and layer in GENERATED
            )
        elif root in sys.stdlib_module_names:
            allowed = layer not in PURE or root not in IMPURE
        else:
            allowed = root in THIRD_PARTY[layer]
        if not allowed:
            found.append(f"{line}: {layer} imports {module}")
    if layer in PURE:
        found += [
            f"{node.lineno}: {layer} uses {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node) in IMPURE_NAMES
        ]
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "v1")


def test_every_folder_is_in_the_table() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - {"v1"}
    assert folders == LAYERS


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
        found = imports(ast.parse(path.read_text()), "splitmesh")
        facade = ("splitmesh.client",) if path.name == "__init__.py" else ()
        above = [i for i in found if i.module.startswith("splitmesh.") and i.module not in facade]
        assert not above, f"{path.name} belongs to no layer and so imports none: {above}"
        return
    package = ".".join(["splitmesh", *parts[:-1]])
    assert violations(path.read_text(), parts[0], package) == []


@pytest.mark.parametrize(
    ("layer", "source", "complaint"),
    [
        ("policy", "import time", "policy imports time"),
        ("policy", "def f():\n    import asyncio.events", "policy imports asyncio.events"),
        ("frames", "from os import path\nimport os\nhome = os.environ['HOME']", "frames uses os.environ"),
        ("frames", "from splitmesh.bus.base import Bus", "frames imports splitmesh.bus.base"),
        ("frames", "from splitmesh import bus", "frames imports splitmesh.bus"),
        ("codec", "from .. import media", "codec imports splitmesh.media"),
        ("codec", "from ..media.source import open_source", "codec imports splitmesh.media.source"),
        ("codec", "from splitmesh.v1 import infer_pb2", "codec imports splitmesh.v1"),
        ("plan", "import importlib\nimportlib.import_module('onnxruntime')", "plan imports onnxruntime"),
        ("media", "import nats.aio.client", "media imports nats.aio.client"),
        ("media", "from splitmesh.bus.nats import connect_nats", "media imports splitmesh.bus.nats"),
        ("edge", "if True:\n    import av", "edge imports av"),
        ("gateway", "import grpc", "gateway imports grpc"),
        ("agent", "from splitmesh.edge.service import Edge", "agent imports splitmesh.edge.service"),
        ("process", "from splitmesh.bus.base import Bus", "process imports splitmesh.bus.base"),
        ("gateway", "from splitmesh.edge.asking import Asking", "gateway imports splitmesh.edge.asking"),
        ("client", "from splitmesh.media.source import open_source", "client imports splitmesh.media.source"),
        ("edge", "from splitmesh.cloud.service import serve", "edge imports splitmesh.cloud.service"),
        ("lab", "from splitmesh.edge.service import Edge", "lab imports splitmesh.edge.service"),
        ("sim", "from splitmesh.edge.streams import EdgeStream", "sim imports splitmesh.edge.streams"),
        ("sim", "from splitmesh.lab.link.shaper import Shaper", "sim imports splitmesh.lab.link.shaper"),
        ("sim", "from splitmesh.bus.memory import MemoryBus", "sim imports splitmesh.bus.memory"),
        ("sim", "import time", "sim imports time"),
    ],
)
def test_a_violation_is_seen(layer: str, source: str, complaint: str) -> None:
    (found,) = violations(source, layer, f"splitmesh.{layer}")
    assert found.endswith(complaint)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        ("policy", "import math, dataclasses\nimport numpy as np\nfrom splitmesh.frames.outcome import Outcome"),
        ("wire", "from google.protobuf.message import DecodeError\nfrom splitmesh.v1 import infer_pb2"),
        ("bus", "import asyncio, time\nimport nats\nfrom splitmesh.telemetry.metrics import Metrics"),
        ("edge", "import asyncio\nfrom splitmesh.media.source import open_source\nfrom . import service"),
        ("sim", "from splitmesh.policy.world import World\nfrom splitmesh.provision.link.trace import LinkTrace"),
        ("cli", "from splitmesh.edge.service import Edge"),
    ],
)
def test_what_the_table_allows_passes(layer: str, source: str) -> None:
    assert violations(source, layer, f"splitmesh.{layer}") == []
