"""What the documents say is true: commands parse or run, files, settings, metrics and bytes are those of the code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from lab_run import made_up_frames
from prometheus_client import CollectorRegistry

from splitmesh.agent.streams import read_streams
from splitmesh.bus.rules import matches
from splitmesh.bus.server import find_server
from splitmesh.cli import main
from splitmesh.codec.container import HEAD_BYTES, MAX_SECTIONS, parse
from splitmesh.codec.head import STATEFUL_HEAD_BYTES, Head, State, build_payload
from splitmesh.codec.picture import encode_picture
from splitmesh.codec.planes.kernel import KERNEL
from splitmesh.codec.registry import CODECS, wire_id
from splitmesh.plan.manifest import parse_manifest
from splitmesh.plan.manifest_kinds import KINDS
from splitmesh.provision.link.presets import PRESETS
from splitmesh.settings.click_options import resolve_options
from splitmesh.settings.keys import keys_of
from splitmesh.settings.model import SECTIONS, AgentSettings
from splitmesh.settings.resolve import resolve
from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.telemetry.metrics import CloudMetrics, EdgeMetrics
from splitmesh.wire import headers, subjects
from splitmesh.wire.messages import NackCode

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HARMLESS = (
    ["models", "ls"], ["config", "edge"], ["config", "--template"], ["doctor"], ["models", "info", "coco-ssdlite"],
)  # fmt: skip
"""Commands of the documents that are run as they stand; `why` is run on a folder made here."""
OTHER_VARIABLES = {"SPLITMESH_CACHE_DIR", "SPLITMESH_CONFIG"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(document, text) of each fenced block in `language`."""
    for path in DOCUMENTS:
        for found, text in FENCE.findall(path.read_text(encoding="utf-8")):
            if found == language:
                yield path.name, text


def console_lines() -> list[tuple[str, list[str]]]:
    """(document, words) of each command behind a `$ `, without comments, pipes and redirections."""
    lines = []
    for document, text in blocks("console"):
        for line in text.splitlines():
            assert line.startswith("$ "), f"{document}: {line!r} is not a command"
            words = shlex.split(line[2:], comments=True)
            end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), len(words))
            lines.append((document, words[:end]))
    return lines


COMMANDS = [(document, words[1:]) for document, words in console_lines() if words[0] == "splitmesh"]


@pytest.fixture(autouse=True)
def _no_settings_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """(command's name, its parameters), read by the command line's own parser. Raises click.UsageError."""
    command: click.Command = main.cli
    name, context = "", None
    while True:
        context = command.make_context(name or "splitmesh", list(words), parent=context)
        if not isinstance(command, click.Group) or not context._protected_args + context.args:
            return context.command_path.removeprefix("splitmesh "), context.params
        name, inner, words = command.resolve_command(context, context._protected_args + context.args)
        assert inner is not None, words
        command = inner


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=lambda value: " ".join(value)[:60])
def test_every_command_of_a_document_is_one(document: str, words: list[str]) -> None:
    name, values = parsed(words)
    if name in SECTIONS:
        resolve_options(SECTIONS[name], values)


def test_the_first_example_is_the_lab_and_the_documents_show_all_commands() -> None:
    assert [words for _, words in console_lines()][:2] == [["make", "lab"], ["make", "test"]]
    shown = {words[0] for _, words in COMMANDS}
    inline = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    assert set(main.COMMANDS) <= shown | set(re.findall(r"`splitmesh (\w+)", inline))


@pytest.mark.parametrize("words", HARMLESS, ids=" ".join)
def test_harmless_commands_of_the_documents_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert words in [shown for _, shown in COMMANDS], "no document shows it any more"
    assert main.run(words) == 0
    assert capsys.readouterr().out.strip()


def test_why_answers_as_the_readme_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = next(words for _, words in COMMANDS if words[0] == "why")
    run = tmp_path / "lab-out" / "latest"
    run.mkdir(parents=True)
    lines = [record.to_json_line() for record in made_up_frames(400)]
    (run / "results.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main.run(words) == 0
    told = capsys.readouterr().out
    assert "highest utility" in told and f"edge.run.{words[1]}" in told


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for _, words in console_lines() if words[0] == "make"}
    for path in DOCUMENTS:
        named |= set(re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets and {"lab", "test", "bench-lab"} <= named


def test_what_is_installed_is_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = [words[2] for _, words in console_lines() if words[:2] == ["pip", "install"]]
    assert ".[edge]" in wanted and "." in wanted
    for target in wanted:
        assert set(re.findall(r"\w+", target)) <= extras.keys()


def test_every_command_named_in_running_text_exists() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"`splitmesh ([a-z]+)", path.read_text(encoding="utf-8")):
            assert name in main.COMMANDS, f"{path.name} names splitmesh {name}"


def test_every_metric_that_is_named_exists_and_every_metric_is_named() -> None:
    known = set()
    for kind in (EdgeMetrics, CloudMetrics, GatewayMetrics, AgentMetrics):
        registry = CollectorRegistry()
        kind(registry)
        for metric in registry.collect():
            known.add(metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, ""))
    named = {name for path in DOCUMENTS for name in re.findall(r"`(splitmesh_\w+)", path.read_text(encoding="utf-8"))}
    assert named == known


def test_every_variable_that_is_named_is_read_by_someone() -> None:
    keys = [key for model in SECTIONS.values() for key in keys_of(model).values()]
    known = {key.env for key in keys} | {key.also_env for key in keys} | OTHER_VARIABLES
    for path in DOCUMENTS:
        for name in re.findall(r"SPLITMESH_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")):
            assert name in known, f"{path.name} names {name}"


def test_every_toml_example_holds(tmp_path: Path) -> None:
    kinds = []
    common: dict[str, Any] = {}
    for document, text in blocks("toml"):
        table = tomllib.loads(text)
        if "postprocess" in table:
            common = common or table
            kinds.append(parse_manifest(common | table, where=document).postprocess.kind)
            continue
        file = tmp_path / "splitmesh.toml"
        file.write_text(text, encoding="utf-8")
        if "streams" in table:
            assert read_streams(AgentSettings(name="box", streams=file)).streams.keys() == table["streams"].keys()
            continue
        assert table.keys() <= SECTIONS.keys(), document
        for section in table:
            flags = {"source": "clip.mp4"} if section == "edge" and "source" not in table[section] else {}
            resolve(section, SECTIONS[section], flags, config=file, environ={})
    assert set(kinds) == set(KINDS)


def test_the_settings_template_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "--template"]) == 0
    text = re.sub(r"^# (\w+ = (?!.*# (?:required|not set)).*)$", r"\1", capsys.readouterr().out, flags=re.MULTILINE)
    file = tmp_path / "all.toml"
    file.write_text(text, encoding="utf-8")
    for section, model in SECTIONS.items():
        required = {name: "clip.mp4" for name, key in keys_of(model).items() if key.required}
        given = resolve(section, model, required, config=file, environ={}).settings
        default = resolve(section, model, required, environ={}).settings
        assert given == default


def test_links_and_their_anchors_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text("utf-8")):
            other = (path.parent / target).resolve() if target else path
            assert other.exists(), f"{path.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
                assert anchor in slugs, f"{path.name}: {target}#{anchor}"


def test_generated_tables_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/doc_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_has_the_place_for_the_benchmark_and_a_picture_that_is_not_too_large() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("<!-- bench-lab:begin -->") < text.index("<!-- bench-lab:end -->")
    assert (ROOT / "docs/images/lab-report.png").stat().st_size <= 400_000


def nats_config() -> str:
    return next(text for _, text in blocks("") if "listen:" in text)


def test_the_brokers_configuration_is_one(tmp_path: Path) -> None:
    without_files = re.sub(r"^tls \{.*?^\}\n", "", nats_config(), flags=re.DOTALL | re.MULTILINE)
    assert "tls" not in without_files
    (tmp_path / "nats.conf").write_text(without_files, encoding="utf-8")
    done = subprocess.run([find_server(), "-t", "-c", "nats.conf"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_brokers_permissions_allow_what_each_side_does_and_not_the_others_part() -> None:
    rights = {}
    for user, body in re.findall(r"user: (\w+),.*?permissions: \{(.*?)\}", nats_config(), re.DOTALL):
        for verb, listed in re.findall(r"(publish|subscribe):\s*\[(.*?)\]", body, re.DOTALL):
            rights[user, verb] = re.findall(r'"([^"]+)"', listed)

    def may(user: str, verb: str, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in rights[user, verb])

    work = [subjects.infer("default", "coco-ssdlite", cut) for cut in ("", "n37-64x19x19")]
    load, cancel, inbox = subjects.load("default"), subjects.cancel("default"), "_INBOX.abc.1"
    direct = subjects.worker("default", "w1"), subjects.table("default", "w1")
    assert all(may("edge", "publish", each) for each in (*work, *direct, cancel, inbox))
    assert all(may("edge", "subscribe", each) for each in (load, inbox))
    assert all(may("worker", "publish", each) for each in (load, inbox))
    assert all(may("worker", "subscribe", each) for each in (*work, *direct, cancel, inbox))
    told = [each("default", "cam") for each in (subjects.status, subjects.result, subjects.preview)]
    asked, spans = subjects.command("default", "cam"), subjects.spans("default", "w1")
    assert all(may("edge", "publish", each) for each in told) and may("edge", "subscribe", asked)
    assert may("worker", "subscribe", spans)
    assert not may("edge", "publish", asked) and not any(may("worker", "publish", each) for each in (asked, *told))
    assert not may("edge", "publish", load) and not may("worker", "publish", work[0])
    assert not may("edge", "subscribe", work[0]) and not may("worker", "publish", cancel)
    assert not may("edge", "publish", subjects.infer("other", "coco-ssdlite", ""))


def test_the_protocol_page_names_subjects_headers_codes_and_bytes_as_they_are() -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    for subject in (
        subjects.infer("T", "M", "C"),
        subjects.worker("T", "W"),
        subjects.table("T", "W"),
        subjects.load("T"),
        subjects.cancel("T"),
        subjects.result("T", "E"),
        subjects.preview("T", "E"),
        subjects.status("T", "E"),
        subjects.command("T", "E"),
        subjects.spans("T", "W"),
        subjects.agent("T", "A"),
        subjects.agents("T", "A"),
    ):
        shown = subject.replace(".T", ".<tenant>").replace(".M", ".<model>").replace(".C", ".<cut>")
        assert f"`{shown.replace('.W', '.<worker>').replace('.E', '.<edge>').replace('.A', '.<agent>')}`" in text
    assert f"queue group `{subjects.POOL}`" in text and f"`{subjects.WHOLE}` for the uncut model" in text
    for header in (headers.BUDGET_US, headers.TRACEPARENT):
        assert f"| `{header}` |" in text
    for code in NackCode:
        assert f"| {code.value} | `{code.label}` |" in text
    for codec in CODECS:
        assert f"{wire_id(codec)} `{codec}`" in text


def test_a_payload_is_laid_out_as_the_protocol_page_says(rng_picture: Any) -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    rows = {row[2].split(",")[0].split(" ")[0]: (int(row[0]), int(row[1]))
            for row in re.findall(r"^\| (\d+) \| (\d+) \| (.+) \|$", text, re.MULTILINE)}  # fmt: skip
    payload = encode_picture(rng_picture, quality=85)

    def field(name: str) -> bytes:
        offset, size = rows[name]
        return payload[offset : offset + size]

    assert field("magic") == b"SM" and field("version") == b"\x01"
    assert field("codec:")[0] == wire_id("jpeg") and field("level:")[0] == 85 and field("number")[0] == 1
    assert int.from_bytes(field("bytes"), "little") == len(payload) - HEAD_BYTES
    assert sum(rows["CRC-32"]) == HEAD_BYTES and f"{HEAD_BYTES} bytes of head" in text
    assert f"1 … {MAX_SECTIONS}" in text
    section = parse(payload).sections[0]
    row = bytes([0, 3]) + b"".join(n.to_bytes(4, "little") for n in rng_picture.shape) + bytes([0])
    assert payload[HEAD_BYTES:].startswith(row + (0).to_bytes(4, "little") + len(section.data).to_bytes(4, "little"))


def test_a_payload_with_a_table_is_laid_out_as_the_protocol_page_says() -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    assert f"{HEAD_BYTES} bytes, or {STATEFUL_HEAD_BYTES} where the codec keeps state" in text
    section = text[text.index("Version 2 is of codecs") : text.index("### `u8lz4`")]
    fields = [(int(at), int(size)) for at, size in re.findall(r"^\| (\d+) \| (\d+) \|", section, re.MULTILINE)]
    payload = build_payload(Head("temporal", 77, 1, b"abcd", State(0x0201, 0x0403, 0x08070605)), b"body")
    found = [payload[at : at + size] for at, size in fields]
    assert found == [b"SM", b"\2", b"\4", b"M", b"\1", b"abcd", b"\1\2", b"\3\4", b"\5\6\7\x08"]
    crc = zlib.crc32(b"body", zlib.crc32(payload[:18]))
    assert "| 10 or 18 | 4 |" in section and payload[18:22] == crc.to_bytes(4, "little")


@pytest.mark.parametrize("slots", [1, 64])
def test_cells_of_the_plane_coder_are_as_many_as_the_protocol_page_lists(slots: int) -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    listed = text[text.index("| cells | for |") : text.index("**Order.**")]
    terms = [term for row in re.findall(r"^\| (\d.*?) \|", listed, re.MULTILINE) for term in row.split(", ")]
    assert sum(int(term.split()[0]) * (slots if term.endswith("S") else 1) for term in terms) == KERNEL.cells(slots)


@pytest.fixture
def rng_picture() -> Any:
    import numpy as np

    return np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)


def test_the_operations_page_names_all_link_presets() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in PRESETS)


def test_messages_that_the_operations_page_quotes_are_in_the_code() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text[text.index("## When something fails") : text.index("## Asking why")]
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "services").rglob("*.py"))
    for quote in ("results are being lost: can't write", "another process listens there", "no reply by the deadline",
                  "heard again, probing"):  # fmt: skip
        assert quote in table and quote in code
    for word in ("warming up", "no connection to the broker", "draining"):
        assert f"`{word}`" in text and f'"{word}"' in code


def test_json_of_the_doctor_is_as_shown_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["doctor", "--json"]) == 0
    assert {"healthy", "findings"} == json.loads(capsys.readouterr().out).keys()
