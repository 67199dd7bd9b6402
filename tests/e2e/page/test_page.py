"""The page in a real Chromium, on a real mesh of processes and a real video: what an operator sees and does."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from chromium import MISSING, Browser, chromium
from page_mesh import EDGE, WORKER, PageMesh, page_mesh

from splitmesh.gateway.tokens import Account, entry, new_token
from splitmesh.models.registry import resolve_model
from splitmesh.provision.plan import edge_plan

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}; see tests/e2e/README.md"),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]

IMAGES = str(Path(images).resolve()) if (images := os.environ.get("PAGE_IMAGES")) else ""
"""Folder to leave screenshots in, as docs/images has them."""
PICTURE = "document.querySelector('.preview p').hidden"
"""One is shown. It may take a while: on a busy link frames come first."""
AWAY = "status of 504"
"""The edge did not answer in time: its link carries nothing for some seconds now and then."""
TOKEN = new_token()
ROWS = "document.querySelectorAll('.frames tbody tr')"
OFFLOADED = f"[...{ROWS}].find((row) => /^(split|frame)$/.test(row.cells[1].innerText))"
PLACES = f"new Set([...{ROWS}].map((row) => row.cells[1].innerText))"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        clip = str(shared / "media" / "vtest.avi")
        return edge_plan(
            resolve_model("coco-ssdlite"), clip, threads=1, providers=("cpu",), progress=lambda *_: None
        ).folder


@pytest.fixture
async def mesh(tmp_path: Path, plan: Path, shared: Path) -> AsyncIterator[PageMesh]:
    async with page_mesh(tmp_path, clip=shared / "media" / "vtest.avi", plan=plan) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running
        troubles = await running.call("troubles")
        assert [each for each in troubles if AWAY not in each] == []


async def picture(browser: Browser, name: str, *, full: bool = True) -> None:
    if IMAGES:
        await browser.call("screenshot", path=f"{IMAGES}/page-{name}.png", full=full)


async def open_edge(browser: Browser, mesh: PageMesh, **options: object) -> None:
    await browser.open(f"{mesh.url}/#/edge/{EDGE}", **options)  # type: ignore[arg-type]
    await browser.see(".frames tbody tr", 30)


async def test_decisions_move_a_click_tells_a_frames_story_and_what_if_changes_one(
    mesh: PageMesh, browser: Browser
) -> None:
    await open_edge(browser, mesh)
    await browser.until(PICTURE, 60)
    newest = int(await browser.text(".frames tbody tr button"))
    moved = 450 if IMAGES else 20
    await browser.until(f"+{ROWS}[0].cells[0].innerText > {newest + moved}", 60)
    await browser.until(f"{PLACES}.size > 1", 60)
    await picture(browser, "edge-1280-light")

    await browser.until(f"!!{OFFLOADED}", 60)
    await browser.call("run", script=f"{OFFLOADED}.cells[0].firstChild.click()")
    await browser.see(".waterfall li[data-service=cloud]")
    spans = "[...document.querySelectorAll('.waterfall li')].map((row) => row.dataset.service)"
    services = await browser.call("run", script=spans)
    assert services.count("edge") >= 5 and services.count("cloud") >= 3
    names = await browser.call("texts", of=".waterfall li .who")
    assert any("offload" in name for name in names) and any(WORKER in name for name in names)
    words = await browser.call("texts", of=".words p")
    assert words[0].startswith(("SPLIT@", "FRAME ")) and " because " in words[0]
    await picture(browser, "story-1280-light", full=False)
    await browser.call("press", keys="Escape")
    await browser.until("!document.querySelector('dialog[open]')")
    assert (await browser.call("url")).endswith(f"#/edge/{EDGE}")

    await browser.call("select", on="#what-if-policy", value="track")
    await browser.until("document.querySelectorAll('.verdict .point')[1].innerText === 'TRACK'")
    assert await browser.text(".verdict .point") != "TRACK"
    assert await browser.call("count", of=".verdict .changed") == 1
    await picture(browser, "what-if-1280-light")
    assert "adaptive" in await browser.text(".edge-head .soft"), "trying changes nothing"
    await browser.call("click", on=".what-if button.primary[type=submit]")
    await browser.see("dialog.small[open]")
    assert "adaptive → track" in await browser.text("dialog.small")
    await browser.call("click", on="dialog.small button.primary")
    await browser.until("document.querySelector('.edge-head .soft').innerText.includes('track')")
    await browser.until(f"{ROWS}[0].cells[2].innerText === 'TRACK'")
    assert "anyone-here: adaptive" in await browser.call("run", script="document.querySelector('.audit').textContent")


async def test_a_killed_worker_is_red_within_two_seconds_and_green_again(mesh: PageMesh, browser: Browser) -> None:
    await browser.open(f"{mesh.url}/")
    members = "[...document.querySelectorAll('tbody tr')]"
    row = f"{members}.find((row) => row.cells[0].innerText === '{WORKER}')"
    await browser.until(f"{row}?.querySelector('.health').innerText === 'alive'")
    await browser.until(
        f"[...document.querySelectorAll('tbody tr')].some((row) => row.cells[0].innerText === '{EDGE}')"
    )
    await browser.until("!!document.querySelector('.topology .flow')", 45)
    await picture(browser, "fleet-1280-light")
    await mesh.kill_worker()
    killed = time.monotonic()
    await browser.until(f"{row}.querySelector('.health').className === 'health gone'", 2.0)
    assert time.monotonic() - killed < 2.0
    await browser.until("document.querySelector('.events .bad')?.innerText.includes('is gone')")
    await picture(browser, "worker-killed-1280-light")
    await mesh.restart_worker()
    await browser.until(f"{row}.querySelector('.health').className === 'health alive'", 20)
    await picture(browser, "worker-back-1280-light")


async def test_a_page_that_loses_its_connection_comes_back_by_itself(mesh: PageMesh, browser: Browser) -> None:
    await open_edge(browser, mesh)
    socket = "document.getElementById('connection').className"
    await browser.call("offline", on=True)
    await browser.until(f"{socket} !== 'connection live'", 20)
    await browser.call("offline", on=False)
    await browser.until(f"{socket} === 'connection live'", 20)
    newest = int(await browser.text(".frames tbody tr button"))
    await browser.until(f"+{ROWS}[0].cells[0].innerText > {newest + 10}", 20)
    await browser.call("troubles")  # the browser itself tells of each failed connection


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_is_accessible_and_fits_its_width(
    mesh: PageMesh, browser: Browser, width: int, scheme: str
) -> None:
    await browser.open(f"{mesh.url}/", width=width, scheme=scheme, for_axe=True)
    await browser.until("!!document.querySelector('.topology .flow')", 45)
    await _is_sound(browser, f"fleet-{width}-{scheme}")
    await open_edge(browser, mesh, width=width, scheme=scheme, for_axe=True)
    await browser.until(f"{ROWS}.length > 20", 30)
    await _is_sound(browser, f"edge-{width}-{scheme}")
    await browser.call("run", script=f"{ROWS}[0].cells[0].firstChild.click()")
    await browser.see("dialog[open] .words p")
    await _is_sound(browser, f"story-{width}-{scheme}")


async def _is_sound(browser: Browser, name: str) -> None:
    await picture(browser, name, full=not name.startswith("story"))
    assert await browser.call("run", script="document.documentElement.scrollWidth - innerWidth") <= 0, name
    wide = "[...document.querySelectorAll('dialog[open]')].map((each) => each.scrollWidth - each.clientWidth)"
    assert max(await browser.call("run", script=wide), default=0) <= 0, name
    assert await browser.call("axe") == [], name


async def test_the_keyboard_reaches_an_edge_and_a_frame(mesh: PageMesh, browser: Browser) -> None:
    await browser.open(f"{mesh.url}/")
    await browser.see("tbody a")
    focused = "document.activeElement"
    for _ in range(12):
        await browser.call("press", keys="Tab")
        if await browser.call("run", script=f"{focused}.matches('tbody a')"):
            break
    await browser.call("press", keys="Enter")
    await browser.see(".frames tbody tr")
    assert await browser.call("run", script=f"{focused}.id") == "content"
    for _ in range(30):
        await browser.call("press", keys="Tab")
        if await browser.call("run", script=f"{focused}.matches('.frames button')"):
            break
    await browser.call("press", keys="Enter")
    await browser.see("dialog[open]")
    assert await browser.call("run", script=f"!!{focused}.closest('dialog')")


async def test_a_tenant_logs_in_with_its_token_and_out_again(
    tmp_path: Path, plan: Path, shared: Path, browser: Browser
) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(entry(TOKEN, Account("default", "alice")))
    async with page_mesh(tmp_path, clip=shared / "media" / "vtest.avi", plan=plan, tokens=tokens) as mesh:
        await browser.open(mesh.url, for_axe=True)
        await browser.see("#token")
        assert await browser.call("axe") == []
        await browser.call("fill", on="#token", text="smt_wrong")
        await browser.call("press", keys="Enter")
        await browser.see("#wrong:not([hidden])")
        await picture(browser, "login-1280-light")
        await browser.call("fill", on="#token", text=TOKEN)
        await browser.call("press", keys="Enter")
        await browser.see("tbody a")
        assert await browser.text("#tenant") == "default · alice"
        assert await browser.call("run", script="document.cookie") == ""
        await browser.call("click", on="#logout")
        await browser.see("#token")
