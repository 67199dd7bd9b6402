"""The compose file keeps its promises: every knob documented, every setting known, every container confined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tools.compose_state import read_env

from splitmesh.settings.model import SECTIONS
from splitmesh.settings.resolve import resolve

COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+):-([^}]*)\}")
THEIRS = {"collector", "jaeger", "prometheus", "grafana", "camera"}
SECTION_OF = {"edge": "edge", "camera-edge": "edge", "worker-1": "cloud", "worker-2": "cloud", "gateway": "gateway",
              "link": "link"}  # fmt: skip
ONLY_FOR_TOOLS = {"COMPOSE_PROFILES", "VIDEO"}


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


def written() -> dict[str, set[str]]:
    """Variable → the defaults that the compose file gives it."""
    found: dict[str, set[str]] = {}
    for name, default in VARIABLE.findall((COMPOSE / "compose.yaml").read_text("utf-8")):
        found.setdefault(name, set()).add(default)
    return found


def test_every_knob_stands_in_env_with_the_same_default_and_none_is_dead() -> None:
    documented = read_env((COMPOSE / ".env").read_text("utf-8"))
    used = written()
    assert {name: {documented.get(name)} for name in used} == used
    assert set(documented) - set(used) == ONLY_FOR_TOOLS


def test_every_variable_has_a_default() -> None:
    text = (COMPOSE / "compose.yaml").read_text("utf-8")
    assert len(re.findall(r"(?<!\$)\$\{", text)) == len(VARIABLE.findall(text))
    assert not re.findall(r"(?<!\$)\$\w", text)


@pytest.mark.parametrize("name", SECTION_OF)
def test_settings_of_a_service_are_settings_that_there_are(services: dict[str, dict[str, Any]], name: str) -> None:
    section = SECTION_OF[name]
    given = {
        key: VARIABLE.sub(lambda match: match[2], str(value)) for key, value in services[name]["environment"].items()
    }
    settings = resolve(section, SECTIONS[section], {}, environ=given).settings
    if section != "link":
        assert str(settings.nats_url).startswith("tls://")
        assert settings.nats_ca and settings.nats_creds


def test_only_the_link_joins_the_site_and_the_centre(services: dict[str, dict[str, Any]]) -> None:
    both = {name for name, service in services.items() if len(service["networks"]) == 2}
    assert both == {"link", "collector", "prometheus"}
    assert {name for name, service in services.items() if service["networks"] == ["site"]} == {
        "leaf", "edge", "camera", "camera-edge", "load",
    }  # fmt: skip


def test_every_container_has_limits_and_a_pinned_image(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        image = VARIABLE.sub(lambda match: match[2], service["image"])
        assert re.search(r":[^:/]+$", image) and not image.endswith(":latest"), image


def test_our_containers_can_do_little_and_write_little(services: dict[str, dict[str, Any]]) -> None:
    for name in set(services) - THEIRS:
        service = services[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert any(mount.startswith("/tmp") for mount in service["tmpfs"]), name


def test_a_service_mounts_no_secrets_but_its_own(services: dict[str, dict[str, Any]]) -> None:
    own = {"worker-1": "worker", "worker-2": "worker", "camera-edge": "edge"}
    for name, service in services.items():
        mounts = [mount.split(":") for mount in service.get("volumes", ()) if mount.startswith("./state/")]
        folders = {mount[0].removeprefix("./state/") for mount in mounts} - {"media"}
        assert folders <= {own.get(name, name)}, name
        assert all("ro" in mount[2].split(",") for mount in mounts), name


def test_ports_are_open_on_this_machine_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports and all(port.startswith("${BIND:-127.0.0.1}:") for port in ports)


def test_no_secret_stands_in_the_files_that_are_committed() -> None:
    for file in (COMPOSE / "compose.yaml", COMPOSE / ".env", *(COMPOSE / "nats").iterdir()):
        assert "password" not in re.sub(r"GF_\w+__FILE: /run/\S+", "", file.read_text("utf-8")).lower(), file
