"""What the page keeps for browsers: sessions and unsent messages, both bounded; and how much of a fleet it shows."""

from __future__ import annotations

import asyncio
import json
import math
import re

import numpy as np

from splitmesh.gateway.fleet import Fleet
from splitmesh.gateway.page.assets import load_assets
from splitmesh.gateway.page.fleet_form import MAX_EDGES, fleet_form
from splitmesh.gateway.page.forms import MAX_BOXES, edge_form, preview_form
from splitmesh.gateway.page.outlet import MAX_FRAMES, Outlet
from splitmesh.gateway.page.sessions import FAILURES_S, MAX_FAILURES, MAX_SESSIONS, SESSION_S, Sessions, same
from splitmesh.gateway.tokens import Account
from splitmesh.v1 import control_pb2 as pb
from splitmesh.v1 import infer_pb2

ALICE = Account("acme", "alice")
S = 1_000_000_000


async def test_of_each_kind_the_newest_is_sent() -> None:
    outlet = Outlet()
    for number in range(5):
        outlet.put("fleet", {"number": number})
        outlet.put("preview", bytes([number]))
    assert json.loads(await outlet.next()) == {"number": 4}
    assert await outlet.next() == b"\x04"
    assert outlet.replaced == 8


async def test_frames_that_wait_are_the_last_ones_and_those_lost_are_told() -> None:
    outlet = Outlet()
    for start in range(0, 3 * MAX_FRAMES, 100):
        outlet.put_frames("cam", [{"seq": seq} for seq in range(start, start + 100)], left_out=1)
    message = json.loads(await outlet.next())
    numbers = [row["seq"] for row in message["rows"]]
    assert numbers == list(range(2 * MAX_FRAMES, 3 * MAX_FRAMES))
    assert message["left_out"] == 2 * MAX_FRAMES + 3 * MAX_FRAMES // 100


async def test_no_kind_starves_another() -> None:
    """As with a reader so slow that all kinds are there again whenever it reads."""
    outlet = Outlet()
    kinds = []
    for _ in range(9):
        outlet.put("fleet", {"type": "fleet"})
        outlet.put("preview", b"")
        outlet.put_frames("cam", [{"seq": 1}], left_out=0)
        message = await outlet.next()
        kinds.append("preview" if isinstance(message, bytes) else json.loads(message)["type"])
    assert sorted(kinds) == ["fleet"] * 3 + ["frames"] * 3 + ["preview"] * 3


async def test_frames_of_an_edge_that_is_watched_no_longer_are_not_sent() -> None:
    outlet = Outlet()
    outlet.put_frames("cam", [{"seq": 1}], left_out=3)
    outlet.put("preview", b"old")
    outlet.forget_edge()
    outlet.put_frames("yard", [{"seq": 2}], left_out=0)
    assert json.loads(await outlet.next()) == {"type": "frames", "edge": "yard", "rows": [{"seq": 2}], "left_out": 0}


async def test_who_waits_is_woken() -> None:
    outlet = Outlet()
    waiting = asyncio.create_task(outlet.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    outlet.put("fleet", {})
    assert await waiting == "{}"


def test_a_session_ends_by_itself() -> None:
    sessions = Sessions()
    session = sessions.open(ALICE, 0)
    assert sessions.find(session.session_id, SESSION_S * S - 1) == session
    assert sessions.find(session.session_id, SESSION_S * S) is None
    assert sessions.find("", 0) is None


def test_there_are_only_so_many_sessions_the_oldest_makes_room() -> None:
    sessions = Sessions()
    first, second = sessions.open(ALICE, 0), sessions.open(ALICE, 1)
    for now_ns in range(MAX_SESSIONS - 1):
        sessions.open(ALICE, now_ns)
    assert len(sessions) == MAX_SESSIONS
    assert sessions.find(first.session_id, 2) is None and sessions.find(second.session_id, 2) == second


def test_one_account_pushes_out_no_session_of_another() -> None:
    sessions = Sessions()
    bob = sessions.open(Account("globex", "bob"), 0)
    for now_ns in range(2 * MAX_SESSIONS):
        sessions.open(ALICE, now_ns)
    assert len(sessions) == MAX_SESSIONS and sessions.find(bob.session_id, 1) == bob


def test_sessions_share_no_secret() -> None:
    sessions = Sessions()
    made = [sessions.open(ALICE, 0) for _ in range(50)]
    assert len({session.session_id for session in made} | {session.csrf for session in made}) == 100


def test_failed_logins_lock_their_own_address_for_a_while() -> None:
    sessions = Sessions()
    for second in range(MAX_FAILURES):
        assert not sessions.locked("10.0.0.1", second * S)
        sessions.failed("10.0.0.1", second * S)
    now_ns = MAX_FAILURES * S
    assert sessions.locked("10.0.0.1", now_ns) and not sessions.locked("10.0.0.2", now_ns)
    assert not sessions.locked("10.0.0.1", round(FAILURES_S * S) + now_ns)


def test_secrets_are_compared_whatever_characters_come() -> None:
    assert same("abc", "abc") and not same("abd", "abc") and not same("", "abc") and not same("\udcff", "abc")


def fleet_of(edges: int) -> Fleet:
    fleet = Fleet()
    for number in range(edges):
        report = pb.EdgeReport(
            edge_id=f"e-{number:05}", run_id="r", seq=1, hit_rate_5s=0.5, decisions_5s={"local": 2}
        )
        fleet.on_report("acme", report, 0)
    return fleet


def test_a_large_fleet_is_summed_up_and_shown_in_part() -> None:
    shown = fleet_form(fleet_of(5_000), "acme", 1, "")
    assert (len(shown["edges"]), shown["edges_found"], shown["edge_health"]["alive"]) == (MAX_EDGES, 5_000, 5_000)
    assert shown["sums"]["decisions"] == {"local": 10_000} and shown["sums"]["hit_rate"] == 0.5
    assert len(json.dumps(shown)) < 100_000
    assert [edge["name"] for edge in fleet_form(fleet_of(5_000), "acme", 1, "04999")["edges"]] == ["e-04999"]


def test_of_a_fleet_that_is_too_large_those_in_trouble_are_shown() -> None:
    fleet = fleet_of(300)
    fleet.on_report("acme", pb.EdgeReport(edge_id="e-00299", run_id="r", seq=2, breaker="open", policy="adaptive"), 1)
    assert fleet_form(fleet, "acme", 1, "")["edges"][0]["name"] == "e-00299"


def test_another_tenants_fleet_is_empty() -> None:
    shown = fleet_form(fleet_of(3), "other", 1, "")
    assert (shown["edges"], shown["events"], shown["sums"]["hit_rate"]) == ([], [], None)


def test_no_number_is_one_that_json_does_not_have() -> None:
    fleet = Fleet()
    link = pb.LinkReport(bandwidth_bps=math.inf, base_ms=math.nan)
    fleet.on_report("acme", pb.EdgeReport(edge_id="e", run_id="r", fps_5s=math.nan, link=link), 0)
    [edge] = fleet.edges("acme", 0)
    assert json.dumps(edge_form(edge), allow_nan=False)


def test_a_preview_that_lies_about_its_boxes_has_none() -> None:
    lying = infer_pb2.Answer(count=3, boxes=b"\0" * 5, scores=b"", classes=b"")
    assert preview_form(pb.Preview(frame_id="e.r.1", answer=lying))["boxes"] == []


def test_a_preview_shows_its_best_boxes_alone() -> None:
    count = 2 * MAX_BOXES
    scores = np.linspace(0, 1, count, dtype="<f4")
    many = infer_pb2.Answer(count=count, boxes=bytes(16 * count), scores=scores.tobytes(), classes=bytes(2 * count))
    boxes = preview_form(pb.Preview(frame_id="e.r.1", answer=many))["boxes"]
    assert len(boxes) == MAX_BOXES and boxes[0][4:] == [1.0, "class 0"]


def test_all_that_the_pages_name_is_there() -> None:
    assets = load_assets()
    for name in ("index.html", "login.html"):
        text = assets[name].body.decode()
        for part in text.split('"'):
            assert not part.startswith("/assets/") or part.removeprefix("/assets/") in assets, part
    for name, asset in assets.items():
        for module in re.findall(r'from "\./([^"]+)"', asset.body.decode()):
            assert f"js/{module}" in assets, f"{name} imports {module}"
