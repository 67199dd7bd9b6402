"""`splitmesh plan`: how its words are understood, what it prints of plans made by hand, and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import click
import plan_values
import pytest
from rich.console import Console

from splitmesh.cli import main
from splitmesh.cli.plan.command import STAGES, build, plan
from splitmesh.cli.plan.tables import show_difference, show_plan
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.report.diff import compare
from splitmesh.plan.report.document import document

SUBCOMMANDS = ("show", "verify", "profile", "diff")


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plans") / "a.plan"
    plan_values.write_bundle(path, None, ("box", "pi5"))
    return path


def understood(words: list[str]) -> tuple[str, dict[str, object]]:
    """The command that `splitmesh plan WORDS` runs, and its parameters."""
    group = plan.make_context("plan", list(words))
    name, command, rest = plan.resolve_command(group, group._protected_args + group.args)
    assert name is not None and command is not None
    return name, command.make_context(name, rest, parent=group).params


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (["own.onnx"], "MODEL", {"model": "own.onnx", "videos": (), "int8": True, "threads": 1, "out": None}),
        (["--threads", "2", "own.onnx"], "MODEL", {"model": "own.onnx", "threads": 2}),
        (["-o", "x.plan", "--no-int8", "own.onnx"], "MODEL", {"out": Path("x.plan"), "int8": False}),
        (["m", "--video", "a.mp4", "--video", "b.mp4", "--images", "d"], "MODEL",
         {"videos": ("a.mp4", "b.mp4"), "folders": (Path("d"),)}),
        (["m", "--edge-slowdown", "5", "--device-class", "pi5", "--small", "s.onnx", "--json", "-", "--quiet",
          "--force", "--manifest", "m.toml"], "MODEL",
         {"edge_slowdown": 5.0, "device_class": "pi5", "small": "s.onnx", "json_out": "-", "quiet": True,
          "force": True, "manifest": Path("m.toml")}),
        (["./show"], "MODEL", {"model": "./show"}),
        (["build"], "MODEL", {"model": "build"}),
        (["show", "d"], "show", {"folder": Path("d"), "as_json": False}),
        (["verify", "d", "--video", "v"], "verify", {"videos": ("v",)}),
        (["profile", "d", "--edge-slowdown", "3"], "profile", {"edge_slowdown": 3.0}),
        (["diff", "a", "b", "--json"], "diff", {"a": Path("a"), "b": Path("b"), "as_json": True}),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_model_stands_where_a_subcommand_could(words: list[str], name: str, expected: dict[str, object]) -> None:
    found, values = understood(words)
    assert found == name
    assert expected.items() <= values.items()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["own.onnx", "--edge-slowdown", "0.5"], "--edge-slowdown"),
        (["own.onnx", "--threads", "0"], "--threads"),
        (["own.onnx", "--device-class", "Big Box"], "'Big Box' is not of lower-case letters"),
        (["own.onnx", "--thread", "2"], "splitmesh plan MODEL --help"),
        (["--quiet"], "Missing argument 'MODEL'"),
        (["show"], "Missing argument 'DIR'"),
        (["diff", "a"], "Missing argument 'B'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_usage_errors(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_the_help_explains_both_and_every_subcommand_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", "--help"]) == 0
    text = capsys.readouterr().out
    assert "splitmesh plan MODEL [OPTIONS]" in text and "splitmesh plan show|verify|profile|diff DIR" in text
    for option in build.params:
        if isinstance(option, click.Option):
            assert option.opts[0] in text
    assert set(SUBCOMMANDS) == plan.commands.keys()
    for name in SUBCOMMANDS:
        assert f"\n  {name} " in text
        assert main.run(["plan", name, "--help"]) == 0
        assert f"splitmesh plan {name} " in capsys.readouterr().out.split("Examples:")[1]
    assert main.run(["plan", "some.onnx", "--help"]) == 0
    assert "Examples:\n    splitmesh plan " in capsys.readouterr().out


def test_show_prints_cuts_points_and_reasons(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main.run(["plan", "show", str(folder)]) == 0
    shown = capsys.readouterr().out
    for fact in (
        "made-up", "24 others to evaluate", "×5 slower", "also profiled on: pi5", "1×64×19×19 + 1×8", "135,000",
        "split/n9-24x75x75+int8/u8zstd-5", "local/small", "frame/jpeg-95", "0.985",
        "n44-96x19x19 (parity): tail after head differs by 3.1e-02", "7 from the graph: … live tensors",
    ):  # fmt: skip
        assert fact in shown, fact


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_numbers_stay_whole_on_any_terminal(columns: int) -> None:
    console = Console(width=columns)
    with console.capture() as captured:
        show_plan(console, plan_values.bundle())
        show_difference(console, compare(plan_values.bundle(), plan_values.bundle(plan_values.plan(rows=()))))
    text = captured.get()
    for number in ("135,000", "28.9", "0.997", "79.2"):
        assert number in text


def test_show_gives_json_and_the_page_of_a_chosen_profile(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "show", str(folder), "--json", "--device-class", "pi5", "--html", "page.html"]
    assert main.run(words) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["profile"]["device_class"] == "pi5" and row["device_classes"] == ["box", "pi5"]
    assert row.keys() == document(plan_values.bundle()).keys()
    assert "<title>Plan of made-up</title>" in Path("page.html").read_text(encoding="utf-8")


def test_what_is_missing_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", "show", str(folder), "--device-class", "tpu"]) == 1
    assert "no profile of 'tpu', only box, pi5" in capsys.readouterr().err
    assert main.run(["plan", "show", "nowhere"]) == 1
    assert "nowhere is no plan" in capsys.readouterr().err
    assert main.run(["plan", "nowhere.onnx", "--quiet"]) == 1
    assert "nowhere.onnx" in capsys.readouterr().err


def test_diff_exits_as_diff_does(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "b.plan"
    plan_values.write_bundle(other, plan_values.plan(rows=plan_values.rows()[3:], nodes=7))
    assert main.run(["plan", "diff", str(folder), str(folder)]) == 0
    assert "the same plan with the same profiles" in capsys.readouterr().out
    assert main.run(["plan", "diff", str(folder), str(other)]) == 1
    shown = capsys.readouterr().out
    assert "rows measured" in shown and "nodes" in shown and "pi5" in shown
    assert main.run(["plan", "diff", str(folder), str(other), "--json"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert row["same"] is False and {"facts", "cuts", "operating_points", "profiles"} <= row.keys()
    assert {"what": "nodes", "a": 131, "b": 7} in row["facts"]


def test_changes_of_a_point_stand_side_by_side() -> None:
    changed = tuple(
        row.model_copy(update={"bytes_mean": 12_345.0}) if row.point == "split/n20-32x38x38/u8zstd-8" else row
        for row in plan_values.rows()
    )
    console = Console(width=160)
    with console.capture() as captured:
        show_difference(console, compare(plan_values.bundle(), plan_values.bundle(plan_values.plan(rows=changed))))
    line = next(line for line in captured.get().splitlines() if "split/n20-32x38x38/u8zstd-8" in line)
    assert line.split()[0] == "changed" and "22,919 → 12,345" in line


def test_stages_of_planning_have_words() -> None:
    from splitmesh.inference.planning.stages import STAGES as TOLD

    assert set(TOLD) | {"frames"} <= STAGES.keys()


def test_plain_lines_say_when_a_stage_begins_and_what_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([10.0, 10.0, 12.5, 12.51, 99.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with progress_bar(names={"a": "first"}) as progress:
        for what, share in (("a", 0.0), ("b", 0.0), ("a", 0.5), ("a", 1.0), ("a", 1.0), ("b", 0.1), ("c", 1.0)):
            progress(what, share)
    assert capsys.readouterr().err.splitlines() == ["first", "b", "first: 2.5 s", "c", "c: 86.5 s"]


def test_a_terminal_gets_a_bar_per_stage_that_is_full_in_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bar(names={"a": "first"}) as progress:
        for what, share in (("a", 0.2), ("b", 0.5), ("a", 0.9)):
            progress(what, share)
    shown = capsys.readouterr().err.splitlines()
    assert sum("first" in line for line in shown[-3:]) == 1 and any("b " in line for line in shown[-3:])
    with progress_bar(quiet=True) as progress:
        progress("a", 1.0)
    assert capsys.readouterr().err == ""


def test_a_plan_of_parts_only_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    parts = plan_values.plan(calibrated=False, rows=(), cuts=(), rejected=())
    show_plan(Console(), Bundle(Path("x.plan"), plan_values.manifest(), parts, "0" * 64))
    shown = capsys.readouterr().out
    assert "no cuts" in shown and "the plan holds the parts only" in shown
