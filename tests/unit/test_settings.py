"""Settings: units, precedence with provenance, and refusals that name key, value, rule and origin."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.cli.config import template_lines
from splitmesh.errors import SettingsError
from splitmesh.schedule.tenants import Tenant
from splitmesh.settings.click_options import resolve_options, settings_options
from splitmesh.settings.keys import keys_of, near, written
from splitmesh.settings.model import SECTIONS, CloudSettings, EdgeSettings, LabSettings
from splitmesh.settings.presets import PRESETS
from splitmesh.settings.resolve import resolve
from splitmesh.settings.units import (
    Outage,
    parse_bps,
    parse_bytes,
    parse_cpus,
    parse_outages,
    parse_seconds,
    parse_watts,
    split_host_port,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("150ms", 0.15), ("5s", 5), ("2m", 120), ("1h", 3600), ("1m30s", 90), ("3", 3), (2.5, 2.5), ("1e3us", 0.001),
        (" 5 s ", 5),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "5x", "-3s", "5s3", "s", "5 5", True, None, "nan", "1e999s", "5s@2s"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="duration like"):
        parse_seconds(text)


@given(st.floats(0, 1e6, allow_nan=False))
def test_a_bare_number_is_in_the_unit_of_its_field(number: float) -> None:
    assert parse_seconds(number, bare="ms") == pytest.approx(number / 1000)


@pytest.mark.parametrize(("text", "size"), [("2MB", 2_000_000), ("2MiB", 2_097_152), ("512", 512), ("1.5k", 1500)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "bps"), [("2Mbit", 2e6), ("2Mbit/s", 2e6), ("300kbps", 3e5), ("64", 64), ("1gbit", 1e9)]
)
def test_rates(text: str, bps: float) -> None:
    assert parse_bps(text) == bps


@pytest.mark.parametrize("text", ["2MB", "fast", "", "-2Mbit"])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="rate like"):
        parse_bps(text)


def test_outages_are_read_one_by_one() -> None:
    several = (Outage(20, 5), Outage(60, 0.5, cut=True))
    assert parse_outages("5s@20s, 500ms@1m/cut") == parse_outages(["5s@20s", several[1]]) == several
    assert ",".join(map(str, several)) == "5s@20s,0.5s@60s/cut"
    assert parse_outages("") == ()


@pytest.mark.parametrize("value", ["5s", "5s@", "@5s", "@", "x@1s", "5s@1s/burn", "0s@1s", "-1s@3s", 5, ["x"]])
def test_outages_that_make_no_sense(value: object) -> None:
    with pytest.raises(ValueError, match="LENGTH@START"):
        parse_outages(value)


def test_addresses() -> None:
    assert split_host_port("[::1]:80") == ("::1", 80) and split_host_port("h:0") == ("h", 0)
    for bad in ("h", ":1", "h:", "h:99999", "h:x"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            split_host_port(bad)


def test_cpus() -> None:
    assert parse_cpus("1-3,0") == (0, 1, 2, 3)
    assert parse_cpus(2) == (2,)


def edge(flags: dict[str, Any] | None = None, **more: Any) -> Any:
    return resolve("edge", EdgeSettings, {"source": "clip.mp4", **(flags or {})}, **{"environ": {}, **more})


def test_the_strongest_origin_wins_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "splitmesh.toml"
    file.write_text('[edge]\ndeadline_ms = "1s"\nring_capacity = 3\nthreads = 2\n[lab]\nduration_s = 5\n')
    environ = {"SPLITMESH_EDGE_DEADLINE_MS": "300ms", "SPLITMESH_EDGE_RING_CAPACITY": "4"}
    found = edge({"deadline_ms": "150ms"}, environ=environ, config=file)
    assert (found.settings.deadline_ms, found.settings.ring_capacity, found.settings.threads) == (150.0, 4, 2)
    assert found.provenance["deadline_ms"] == "flag --deadline"
    assert found.provenance["ring_capacity"] == "env SPLITMESH_EDGE_RING_CAPACITY"
    assert found.provenance["threads"] == f"file {file}"
    assert found.provenance["policy"] == "default"


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "splitmesh.toml").write_text("[edge]\nring_capacity = 1\n")
    (tmp_path / "other.toml").write_text("[edge]\nring_capacity = 2\n")
    assert edge(cwd=tmp_path).settings.ring_capacity == 1
    environ = {"SPLITMESH_CONFIG": str(tmp_path / "other.toml")}
    assert edge(cwd=tmp_path, environ=environ).settings.ring_capacity == 2
    assert edge(cwd=tmp_path, environ=environ, config=tmp_path / "splitmesh.toml").settings.ring_capacity == 1


def test_shared_variables_fill_what_the_section_does_not_set() -> None:
    environ = {"SPLITMESH_NATS_URL": "nats://a:1", "SPLITMESH_OTLP_ENDPOINT": "http://c:4318"}
    found = edge(environ=environ)
    assert (found.settings.nats_url, found.settings.otlp_endpoint) == ("nats://a:1", "http://c:4318")
    assert found.provenance["nats_url"] == "env SPLITMESH_NATS_URL"
    found = edge(environ={**environ, "SPLITMESH_EDGE_NATS_URL": "nats://b:1"})
    assert found.settings.nats_url == "nats://b:1"


def test_empty_texts_mean_not_set(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('[edge]\nplan = ""\n')
    assert edge(config=file, environ={"SPLITMESH_EDGE_SPAN_LOG": ""}).settings.plan is None


def test_variables_that_kubernetes_puts_there_are_not_ours() -> None:
    environ = {
        "SPLITMESH_EDGE_PORT": "tcp://10.0.0.1:9464", "SPLITMESH_EDGE_SERVICE_HOST": "10.0.0.1",
        "SPLITMESH_EDGE_PORT_9464_TCP_ADDR": "10.0.0.1", "SPLITMESH_EDGE_SERVICE_PORT_WEB": "9464",
    }  # fmt: skip
    assert edge(environ=environ).settings.web_port == 9464


REFUSALS: list[tuple[dict[str, str], dict[str, str], str, tuple[str, ...]]] = [
    ({"deadline_ms": "fast"}, {}, "", ("edge.deadline_ms", '"fast"', "flag --deadline", "duration like")),
    ({"deadline_ms": "2h"}, {}, "", ("edge.deadline_ms", "less than or equal to 60000")),
    ({}, {"SPLITMESH_EDGE_TRACE_RATIO": "3"}, "", ("edge.trace_ratio", '"3"', "env SPLITMESH_EDGE_TRACE_RATIO")),
    ({}, {"SPLITMESH_EDGE_DEADLIN_MS": "3"}, "", ("EDGE_DEADLIN_MS", "did you mean SPLITMESH_EDGE_DEADLINE_MS?")),
    ({}, {}, "[edge]\ndeadline = 3", ("edge.deadline", "did you mean deadline_ms?")),
    ({}, {}, "[egde]\nseed = 3", ("[egde]", "did you mean edge?")),
    ({}, {}, "seed = 3", ("seed",)),
    ({}, {}, "edge = 3", ("edge must be a table",)),
    ({}, {}, "[edge", ("not valid TOML",)),
    ({}, {}, "[edge]\nring_capacity = 0", ("edge.ring_capacity", '"0"', "s.toml", "greater than or equal to 1")),
    ({"hwaccel": "quantum"}, {}, "", ("edge.hwaccel", "'cuda'")),
    ({"name": "a.b"}, {}, "", ("edge.name", "match pattern")),
    ({"colour": "red"}, {}, "", ("edge has no setting colour",)),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "environ", "toml", "words"), REFUSALS)
def test_refusals_name_key_value_rule_and_origin(
    tmp_path: Path, flags: dict[str, str], environ: dict[str, str], toml: str, words: tuple[str, ...]
) -> None:
    file = tmp_path / "s.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        edge(flags, environ=environ, config=file)
    for word in words:
        assert word in str(caught.value)


def test_all_broken_rules_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve("edge", EdgeSettings, {"ring_capacity": "x", "threads": "0"}, environ={})
    assert all(key in str(caught.value) for key in ("edge.source is required", "edge.ring_capacity", "edge.threads"))


def test_passwords_never_print() -> None:
    with pytest.raises(SettingsError) as caught:
        edge({"nats_url": "http://me:hunter2@host"})
    assert "hunter2" not in str(caught.value) and "***@host" in str(caught.value)


def test_a_file_that_is_not_there_is_an_error_if_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't read settings file"):
        edge(config=tmp_path / "none.toml")


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_field_has_a_meaning_a_flag_and_a_variable(section: str) -> None:
    keys = keys_of(SECTIONS[section])
    assert len({key.flag for key in keys.values()}) == len(keys)
    for key in keys.values():
        assert key.doc and key.flag.startswith("--") and key.env.startswith(f"SPLITMESH_{section.upper()}_")


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_the_template_changes_nothing_and_uncommented_it_is_valid(section: str) -> None:
    lines = template_lines([section])
    assert tomllib.loads("\n".join(lines)) == {section: {}}
    keys = keys_of(SECTIONS[section])
    assignments = [line.removeprefix("# ") for line in lines if line.startswith("# ") and " = " in line]
    table = tomllib.loads("\n".join(line for line in assignments if line.split(" = ")[0] in keys))
    assert set(table) == set(keys)


def test_an_uncommented_template_gives_the_defaults(tmp_path: Path) -> None:
    keys = keys_of(LabSettings)
    lines = [line.removeprefix("# ") for line in template_lines(["lab"])[1:]]
    file = tmp_path / "s.toml"
    file.write_text("\n".join(line for line in lines if line.startswith("[") or line.split(" = ")[0] in keys))
    assert resolve("lab", LabSettings, {}, config=file, environ={}).settings == LabSettings()


def test_the_flags_of_the_lab() -> None:
    seen: list[LabSettings] = []
    command = click.Command(
        "lab",
        params=settings_options(LabSettings),
        callback=lambda **values: seen.append(resolve_options(LabSettings, values).settings),
    )
    line = (
        "--source a.mp4 --model m.onnx --deadline 200ms --link lte --edge-slowdown 4 --policy local --duration 30s "
        "--outage 5s@20s,2s@40s/cut --kill-worker 30s --restart-worker 40s --json OUT.json --out DIR "
        "--no-video --quiet --uplink-budget 2Mbit --web-port off"
    )
    result = CliRunner().invoke(command, line.split(), catch_exceptions=False)
    assert result.exit_code == 0
    want = LabSettings(
        source="a.mp4", model="m.onnx", deadline_ms=200.0, link="lte", edge_slowdown=4.0, policy="local",
        duration_s=30.0, outage=(Outage(20, 5), Outage(40, 2, cut=True)), kill_worker_s=30.0, restart_worker_s=40.0,
        json_out=Path("OUT.json"), out=Path("DIR"), no_video=True, quiet=True, uplink_budget_bps=2e6, web_port=None,
    )  # fmt: skip
    assert seen == [want]


def test_defaults_that_were_promised() -> None:
    edge_settings, lab = edge().settings, LabSettings()
    assert (edge_settings.deadline_ms, lab.deadline_ms) == (150.0, 150.0)
    assert (edge_settings.edge_slowdown, lab.edge_slowdown) == (1.0, 5.0)
    assert (lab.duration_s, lab.policy) == (60.0, "adaptive")
    assert CloudSettings().name != edge_settings.name


def test_near_misses() -> None:
    assert near("deadlin", ["deadline_ms", "seed"]) == "did you mean deadline_ms?"
    assert near("zzz", ["deadline_ms", "seed"]) == ""


def test_a_preset_fills_what_was_not_given_and_says_so() -> None:
    found = resolve("lab", LabSettings, {"preset": "thin-uplink", "deadline_ms": "300ms"}, environ={})
    assert (found.settings.link, found.settings.max_fps, found.settings.deadline_ms) == ("uplink-64k", 10.0, 300.0)
    assert found.provenance["link"] == "preset thin-uplink"
    assert found.provenance["deadline_ms"] == "flag --deadline"
    with pytest.raises(SettingsError, match="preset"):
        resolve("lab", LabSettings, {"preset": "no-such"}, environ={})
    for section, presets in PRESETS.items():
        for name in presets:
            assert resolve(section, SECTIONS[section], {"preset": name}, environ={}).settings.preset == name


TENANTS = (
    Tenant("gates"),
    Tenant("yard", rate_rps=50, bytes_per_s=2_000_000, share=0.5),
    Tenant("lab", weight=2, burst=4, concurrency=3),
)


@pytest.mark.parametrize(
    "toml",
    [
        'tenants = "gates, yard:rate=50,bytes=2MB,share=0.5, lab:weight=2,burst=4,concurrency=3"',
        'tenants = ["gates", "yard:rate=50,bytes=2MB,share=0.5", "lab:weight=2,burst=4,concurrency=3"]',
        """
        [cloud.tenants.gates]
        [cloud.tenants.yard]
        rate = 50
        bytes = "2MB"
        share = 0.5
        [cloud.tenants.lab]
        weight = 2
        burst = 4
        concurrency = 3
        """,
    ],
)
def test_tenants_may_be_a_text_a_list_or_a_table(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"[cloud]\n{toml}")
    found = resolve("cloud", CloudSettings, {}, config=file, environ={})
    assert found.settings.tenants == TENANTS
    again = written(found.settings.tenants)
    assert resolve("cloud", CloudSettings, {"tenants": again}, environ={}).settings.tenants == TENANTS
    assert resolve("cloud", CloudSettings, {}, environ={}).settings.tenants == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,a", "names a tenant twice"),
        ("a.b", "must be names"),
        ("rate=5", "must be names"),
        ("a:rate", "must be names"),
        ("a:speed=5", "has no quota speed; quotas are weight, rate"),
        ("a:rate=fast", "rate must be a number, not 'fast'"),
        ("a:rate=0", "tenant a: rate_rps and bytes_per_s must be positive"),
        ("a:share=1.5", "share 1.5 is not in (0, 1]"),
        ("a:bytes=much", "must be a size"),
    ],
)
def test_tenants_that_there_can_not_be(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve("cloud", CloudSettings, {"tenants": text}, environ={})
    assert words in str(caught.value) and "cloud.tenants" in str(caught.value)


@pytest.mark.parametrize(("text", "watts"), [("6W", 6.0), ("500mW", 0.5), (" 7 w ", 7.0), ("2.5", 2.5), (3, 3.0)])
def test_powers(text: object, watts: float) -> None:
    assert parse_watts(text) == pytest.approx(watts)


@pytest.mark.parametrize("text", ["6 horses", "-1W", "", None, True, "infW"])
def test_what_is_no_power(text: object) -> None:
    with pytest.raises(ValueError, match="6W"):
        parse_watts(text)
