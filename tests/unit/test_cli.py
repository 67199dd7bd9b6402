"""The command line: fast, grouped, one clear line for each error, and answers that can be read by machines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from splitmesh.cli import main
from splitmesh.cli.checks import Finding, Verdict, clocks, disk, ports, python_version, run_checks
from splitmesh.errors import ModelError, SettingsError

LIGHT = "import sys; from splitmesh.cli.main import run; code = run(['--help']); "


@pytest.fixture(autouse=True)
def _no_settings_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        LIGHT + "print(sorted({m.split('.')[0] for m in sys.modules} & {'pydantic', 'numpy', 'av', 'onnx', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in main.COMMANDS:
        assert f"\n  {name} " in done.stdout
    assert [line for line in done.stdout.splitlines() if line in ("Run:", "Prepare:", "Ask:")] == [
        "Run:",
        "Prepare:",
        "Ask:",
    ]
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_is_fast() -> None:
    def took_s() -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", LIGHT + "sys.exit(code)"], capture_output=True, check=True)
        return time.monotonic() - started

    assert min(took_s() for _ in range(4)) < 0.3


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out and f"splitmesh {name}" in out


def test_an_unknown_command_is_a_usage_error_with_a_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["labb"]) == 2
    assert "Did you mean lab?" in capsys.readouterr().err


def test_wrong_settings_are_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["edge", "--deadline", "soon", "--source", "x"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith('error: edge.deadline_ms = "soon" (from flag --deadline): must be a duration')


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ModelError("no such model", advice="try another"), 1, "error: no such model\n  try another\n"),
        (SettingsError("bad port", key="web_port"), 2, "error: bad port\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ModuleNotFoundError("no av", name="av"), 1, "pip install 'splitmesh[edge]'"),
    ],
)
def test_how_errors_look(
    error: BaseException, code: int, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "load", lambda _target: click.Command("doctor", callback=fail))
    assert main.run(["doctor"]) == code
    assert shown in capsys.readouterr().err


def test_the_status_of_a_command_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "load", lambda _target: click.Command("doctor", callback=lambda: 7))
    assert main.run(["doctor"]) == 7


def test_a_missing_module_of_ours_is_no_extra() -> None:
    missing = ModuleNotFoundError("no x", name="splitmesh.nowhere")
    assert main.missing_extra(missing) is missing


def test_config_as_json_says_where_values_come_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITMESH_EDGE_NATS_URL", "nats://me:hunter2@broker:4222")
    Path("splitmesh.toml").write_text('[edge]\ndeadline_ms = "200ms"\n')
    assert main.run(["config", "edge", "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["key"]: row for row in json.loads(out)["edge"]}
    assert rows["nats_url"]["value"] == "nats://***@broker:4222"
    assert rows["nats_url"]["source"] == "env SPLITMESH_EDGE_NATS_URL"
    assert (rows["deadline_ms"]["value"], rows["deadline_ms"]["default"]) == ("200ms", "150ms")
    assert rows["deadline_ms"]["source"].startswith("file ")
    assert (rows["source"]["source"], rows["source"]["value"]) == ("required", None)
    assert "hunter2" not in out


def test_config_as_table_and_template(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "lab"]) == 0
    assert "kill_worker_s" in capsys.readouterr().out
    assert main.run(["config", "--template"]) == 0
    assert "[edge]" in capsys.readouterr().out
    assert main.run(["config", "lbb"]) == 2
    assert "did you mean lab?" in capsys.readouterr().err


def test_doctor_gives_every_check_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code = main.run(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    names = {row["name"].split()[0] for row in report["findings"]}
    assert {
        "python",
        "packages",
        "runtime",
        "decode",
        "codec",
        "broker",
        "port",
        "clocks",
        "cpu",
        "memory",
        "disk",
        "settings",
    } <= names
    broken = [row for row in report["findings"] if row["essential"] and row["verdict"] == "broken"]
    assert code == int(bool(broken)) and report["healthy"] is not bool(broken)


def test_a_check_that_fails_is_a_finding() -> None:
    def explode() -> list[Finding]:
        raise OSError("no such device")

    found = run_checks([("explode", explode), ("python", python_version)])
    assert found[0].verdict is Verdict.BROKEN and "no such device" in found[0].detail
    assert found[1].verdict is Verdict.OK


def test_doctor_fails_when_something_essential_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from splitmesh.cli import doctor

    broken = Finding("runtime", Verdict.BROKEN, "nothing runs", "reinstall", essential=True)
    monkeypatch.setattr(doctor, "CHECKS", (("runtime", lambda: [broken]),))
    assert main.run(["doctor"]) == 1
    assert "reinstall" in capsys.readouterr().out


def test_checks_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path / "cache"))
    assert [each.verdict for each in disk()][1] is not Verdict.BROKEN
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert [each.verdict for each in disk()][1] is Verdict.BROKEN
    assert [each.name for each in clocks()] == ["clocks"]
    with socket.socket() as holder:
        try:
            holder.bind(("127.0.0.1", 9464))
            holder.listen()
        except OSError:
            pytest.skip("port 9464 is in use on this machine")
        verdicts = {each.name: each.verdict for each in ports()}
    assert verdicts["port 9464"] is Verdict.LIMITED


def test_models_are_listed_with_licence_and_sha256(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["models", "ls", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["default"] and rows[0]["name"] == "coco-ssdlite"
    assert all(len(row["sha256"]) == 64 and row["licence"] for row in rows)
    assert main.run(["models", "ls"]) == 0
    assert rows[0]["sha256"][:12] in capsys.readouterr().out


def test_an_unknown_model_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["models", "info", "nope"]) == 1
    assert "no built-in model is called 'nope'" in capsys.readouterr().err


def test_a_folder_that_is_no_plan_is_one_clear_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["plan", "show", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")
