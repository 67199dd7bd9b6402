"""What an agent decides without processes: which sources, which streams, what it keeps, how logs are labelled."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from splitmesh.agent.allowed import SETTABLE, check_settings, check_source
from splitmesh.agent.commands import Commands
from splitmesh.agent.keeper import Surroundings, edge_environment
from splitmesh.agent.lines import MAX_LINE_BYTES, LabelledLines
from splitmesh.agent.service import Agent
from splitmesh.agent.streams import Change, Changes, Stream, read_streams
from splitmesh.errors import OutputError, SettingsError, WireError
from splitmesh.settings.model import AgentSettings, EdgeSettings
from splitmesh.settings.resolve import resolve
from splitmesh.telemetry.agent import AgentMetrics
from splitmesh.wire import subjects
from splitmesh.wire.agents import (
    AgentCommand,
    AgentListing,
    AgentReply,
    AgentReport,
    AgentStream,
    ListStreams,
    StartStream,
    agent_reply_from,
    agent_report_from,
)
from splitmesh.wire.control_fields import BadField
from splitmesh.wire.packing import pack

FILE = """
[edge]
deadline_ms = "200ms"
uplink_budget_bps = 1234567.0
[streams.gate]
source = "rtsp://ann:secret@gate.local/main"
pace = false
cpu = "0,1"
[streams.yard]
source = "/dev/video0"
name = "yard-7"
web_port = 9464
"""


def settings(tmp_path: Path, text: str = FILE, **more: Any) -> AgentSettings:
    path = tmp_path / "streams.toml"
    path.write_text(text, encoding="utf-8")
    return AgentSettings(name="box", streams=path, **more)


# -- what commands may name


@pytest.mark.parametrize(
    ("pattern", "source"),
    [
        ("/media/*.mp4", "/media/a.mp4"),
        ("rtsp://*.cams.local/*", "rtsp://gate.cams.local/main"),
        ("rtsp://cam-*:554/main", "rtsp://cam-1:554/main"),
        ("/media/[a].mp4", "/media/[a].mp4"),
    ],
)
def test_a_source_that_a_pattern_matches_is_allowed(pattern: str, source: str) -> None:
    check_source(source, listed=(), patterns=("nothing", pattern))


@pytest.mark.parametrize(
    ("pattern", "source"),
    [
        ("/media/*.mp4", "/media/private/a.mp4"),
        ("/media/*", "/media/.."),
        ("*/*/*/*", "a/../../b"),
        ("*", "..\\\\secret"),
        ("rtsp://cam-*.local/*", "rtsp://cam-x@evil.com/.local/main"),
        ("rtsp://*.local/*", "rtsp://evil.com?.local/main"),
        ("rtsp://*.local/*", "rtsp://evil.com#.local/main"),
        ("/media/*", "/media/a\n"),
        ("/media/[ab].mp4", "/media/a.mp4"),
        ("/media/a.mp4", "/media/a-mp4"),
        ("/media/*", "concat:/media/a"),
    ],
)
def test_a_pattern_does_not_reach_another_folder_host_or_user(pattern: str, source: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_source(source, listed=(), patterns=(pattern,))
    assert refused.value.key == "source"


def test_a_listed_source_is_allowed_to_the_letter_and_a_refusal_shows_no_password() -> None:
    check_source("rtsp://a:b@c/1", listed={"rtsp://a:b@c/1"}, patterns=())
    with pytest.raises(SettingsError) as refused:
        check_source("rtsp://a:b@c/2", listed={"rtsp://a:b@c/1"}, patterns=())
    assert "a:b" not in str(refused.value) and "***@c/2" in str(refused.value)


def test_commands_can_set_no_file_address_or_identity() -> None:
    assert EdgeSettings.model_fields.keys() > SETTABLE
    for key in (
        "plan",
        "model",
        "results",
        "nats_url",
        "web_host",
        "name",
        "tenant",
        "source",
        "span_log",
        "nonsense",
    ):
        with pytest.raises(SettingsError, match=key):
            check_settings({"loop": "true", key: "x"})
    check_settings(dict.fromkeys(SETTABLE, "1"))


# -- the streams file


def test_a_stream_has_what_is_shared_what_is_its_own_and_the_agents_broker(tmp_path: Path) -> None:
    made = read_streams(settings(tmp_path, nats_url="tls://broker:4222", tenant="acme", log_json=True)).streams
    assert [(each.name, each.edge) for each in made.values()] == [("gate", "box-gate"), ("yard", "yard-7")]
    gate = resolve("edge", EdgeSettings, {}, environ=made["gate"].variables(), cwd=tmp_path).settings
    assert (gate.source, gate.deadline_ms, gate.pace) == ("rtsp://ann:secret@gate.local/main", 200.0, False)
    assert (gate.uplink_budget_bps, gate.cpu, gate.web_port) == (1234567.0, (0, 1), 0)
    assert (gate.nats_url, gate.tenant, gate.log_json) == ("tls://broker:4222", "acme", True)
    assert made["yard"].values["web_port"] == 9464


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[edge]\nname = 'x'\n", "name is of one stream"),
        ("[edge]\nresults = 'x'\n", "results is of one stream"),
        ("[camera.a]\nsource = 'x'\n", "no streams file"),
        ("streams = 'x'\n", "no streams file"),
        ("[streams]\na = 'x'\n", "no streams file"),
        ("[streams.a]\n", "edge.source is required"),
        ("[streams.a]\nsource = 'x'\nsourcee = 'y'\n", "unknown key sourcee.*did you mean source"),
        ("[streams.a]\nsource = 'x'\ndeadline_ms = 'soon'\n", r"from \[streams.a\] of .*streams.toml"),
        ("[edge]\nthreads = 0\n[streams.a]\nsource = 'x'\n", r"from \[edge\] of .*streams.toml"),
        ("[streams.'a.b']\nsource = 'x'\n", "a.b"),
        ("[streams.a]\nsource = 'x'\nready_json = 'y'\n", "the agent's own"),
        ("[streams.a]\nsource = 'x'\nname = 'n'\n[streams.b]\nsource = 'x'\nname = 'n'\n", "two edges are called n"),
        ("[streams.a\n", "not valid TOML"),
    ],
)
def test_a_streams_file_that_breaks_a_rule_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_streams(settings(tmp_path, text))


def test_a_streams_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no-file\.toml"):
        read_streams(AgentSettings(name="box", streams=tmp_path / "no-file.toml"))


def test_edges_get_no_settings_from_the_agents_surroundings() -> None:
    around = {"SPLITMESH_EDGE_SOURCE": "x", "SPLITMESH_NATS_URL": "y", "SPLITMESH_CACHE_DIR": "/c", "PATH": "/bin"}
    kept = edge_environment(around)
    assert kept == {"SPLITMESH_CACHE_DIR": "/c", "PATH": "/bin", "SPLITMESH_CONFIG": "/dev/null"}


# -- what is kept


def test_changes_outlast_their_process_and_only_the_last_of_a_stream_counts(tmp_path: Path) -> None:
    path = tmp_path / "changes.json"
    started = Change("shed", True, "ann", 1, "/media/a.mp4", {"loop": "true"})
    changes = Changes(path)
    changes.keep(Change("shed", False, "eve", 0))
    changes.keep(started)
    changes.keep(Change("gate", False, "bob", 2))
    assert Changes(path).by_name == changes.by_name and changes.by_name["shed"] == started
    changes.forget("gate")
    assert list(Changes(path).by_name) == ["shed"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"version": 2, "changes": []}',
        '{"version": 1, "changes": [{}]}', '{"version": 1, "changes": 5}',
        '{"version": 1, "changes": [{"name": 1, "running": true, "actor": "", "unix_ms": 1}]}',
        '{"version": 1, "changes": [{"name": "a", "running": 1, "actor": "", "unix_ms": 1}]}',
        '{"version": 1, "changes": [{"name": "a", "running": true, "actor": "", "unix_ms": 1, "settings": [1]}]}',
    ],
)  # fmt: skip
def test_a_file_of_changes_that_is_none_stops_no_camera_but_is_said(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "changes.json"
    path.write_text(text)
    assert Changes(path).by_name == {}
    assert "is left aside" in caplog.text


def test_what_cannot_be_kept_is_not_changed(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "no-folder" / "changes.json")
    with pytest.raises(OutputError):
        changes.keep(Change("gate", False, "bob", 2))
    assert changes.by_name == {}


# -- commands


def commands(tmp_path: Path, **more: Any) -> Commands:
    made = settings(tmp_path, **more)
    metrics = AgentMetrics(CollectorRegistry())
    around = Surroundings(tmp_path, io.StringIO(), as_json=False, drain_s=1.0, restarted=metrics.restarted)
    agent = Agent(made, read_streams(made), Changes(tmp_path / "changes.json"), around, metrics)
    return Commands(agent, metrics, name="box", tenant="default")


async def test_a_listing_shows_no_password_and_too_many_questions_get_no_answer(tmp_path: Path) -> None:
    asked = commands(tmp_path)
    raw = pack(AgentCommand(list=ListStreams()))
    replies = [await asked.answer(raw) for _ in range(40)]
    first = replies[0]
    assert first is not None and [each.source for each in first.listing.report.streams] == [
        "rtsp://***@gate.local/main",
        "/dev/video0",
    ]
    answered = sum(reply is not None for reply in replies)
    assert 20 <= answered < 40


async def test_a_start_that_cannot_be_kept_is_refused_and_starts_nothing(tmp_path: Path) -> None:
    asked = commands(tmp_path, allow_source="/media/*")
    (tmp_path / ".changes.json.new").mkdir()
    reply = await asked.answer(pack(AgentCommand(start=StartStream(name="shed", source="/media/a"))))
    assert reply is not None and "changes.json" in reply.refused.detail
    listing = await asked.answer(pack(AgentCommand(list=ListStreams())))
    assert listing is not None and [s.name for s in listing.listing.report.streams] == ["gate", "yard"]


async def test_an_edges_name_is_not_given_twice(tmp_path: Path) -> None:
    asked = commands(tmp_path, text=FILE.replace("yard-7", "box-shed"), allow_source="/media/*")
    reply = await asked.answer(pack(AgentCommand(start=StartStream(name="shed", source="/media/a"))))
    assert reply is not None and reply.refused.field == "name"


# -- messages


def test_subjects_of_agents() -> None:
    assert subjects.agent("acme", "box-1") == "sm.v1.acme.agent.box-1"
    assert subjects.agents("acme", "box-1") == "sm.v1.acme.agents.box-1"
    for subject in (subjects.agent, subjects.agents):
        with pytest.raises(WireError, match="agent_id"):
            subject("acme", "a.b")


def report(**stream: Any) -> AgentReport:
    return AgentReport(agent_id="box", streams=[AgentStream(**{"name": "gate", **stream})])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (AgentReport(agent_id="other"), "agent_id"),
        (AgentReport(agent_id="box", run_s=float("nan")), "run_s"),
        (AgentReport(agent_id="box", version="v" * 201), "version"),
        (AgentReport(agent_id="box", streams=[AgentStream(name="a")] * 257), "streams"),
        (report(name="a b"), "streams.name"),
        (report(source="s" * 2001), "streams.source"),
        (report(state="s" * 201), "streams.state"),
        (report(for_s=-1), "streams.for_s"),
        (report(web_port=65_536), "streams.web_port"),
    ],
)
def test_a_report_out_of_bounds_is_refused_alone_and_in_a_reply(message: AgentReport, field: str) -> None:
    with pytest.raises(BadField) as refused:
        agent_report_from(pack(message), agent="box")
    assert refused.value.field == field
    with pytest.raises(BadField):
        agent_reply_from(pack(AgentReply(agent_id="box", listing=AgentListing(report=message))), agent="box")


def test_a_reply_within_bounds_is_taken() -> None:
    reply = AgentReply(agent_id="box", listing=AgentListing(report=report(web_port=65_535)))
    assert agent_reply_from(pack(reply), agent="box") == reply
    with pytest.raises(BadField, match="outcome"):
        agent_reply_from(pack(AgentReply(agent_id="box")), agent="box")


# -- logs


def test_lines_are_labelled_whatever_their_chunks() -> None:
    whole = b'{"level": "info", "message": "a"}\nno json\n'
    for size in (1, 7, len(whole)):
        out = io.StringIO()
        lines = LabelledLines("gate", out, as_json=True)
        for start in range(0, len(whole), size):
            lines(whole[start : start + size])
        assert [json.loads(line) for line in out.getvalue().splitlines()] == [
            {"stream": "gate", "level": "info", "message": "a"},
            {"stream": "gate", "message": "no json"},
        ]


def test_a_line_without_an_end_is_bounded_and_the_last_words_are_not_lost() -> None:
    out = io.StringIO()
    lines = LabelledLines("gate", out, as_json=False)
    for _ in range(100):
        lines(b"x" * 1000)
    lines.close()
    written = out.getvalue().splitlines()
    assert all(line.startswith("gate | x") and len(line) <= MAX_LINE_BYTES + 7 for line in written)
    assert 1 < len(written) <= 100


def test_a_stream_is_what_its_settings_are() -> None:
    assert Stream("a", {"source": "x"}) == Stream("a", {"source": "x"}) != Stream("a", {"source": "y"})
