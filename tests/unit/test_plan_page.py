"""plan.html: whole, self-contained, escaped, small, and true to the plan it is about."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import plan_values
import pytest

from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.bundle.schema import RejectedCut
from splitmesh.plan.report.figures import cut_figures, fewest_bytes, kept_points
from splitmesh.plan.report.page import render_page, write_page
from splitmesh.plan.report.pareto import below_the_picture, dots, draw_pareto
from splitmesh.plan.report.strip import columns, marks, place_of
from splitmesh.plan.report.svg import Scale, collides, element, text_box, words

EVIL = "</code><script>alert(1)</script>\"'&\x00"


class Page(HTMLParser):
    """Checks that tags nest and gathers what there is."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return plan_values.bundle()


@pytest.fixture(scope="module")
def page(bundle: Bundle) -> Page:
    return Page(render_page(bundle))


def test_the_page_says_everything_of_the_plan(bundle: Bundle, page: Page) -> None:
    plan = bundle.plan
    for fact in (
        bundle.manifest.name, bundle.sha256, plan.key.footage_sha256, "Some & Any CPU, 4 cores", "×5 slower",
        *plan.notes, *(cut.name for cut in plan.cuts), *(point.name for point in kept_points(bundle)),
        *(row.point for row in plan.rows), *(cut.name for cut in plan.rejected),
        *(cut.reason for cut in plan.rejected), "skip & more", "Relu<37>", "0.870",
        "16 for parity, 21 to fit, 24 others to evaluate",
    ):  # fmt: skip
        assert fact in page.text, fact


def test_the_page_needs_neither_network_nor_script_and_its_policy_lets_its_style_through(bundle: Bundle) -> None:
    text = render_page(bundle)
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in found.tags}
    for _, attributes in found.tags:
        assert not {"style", "src", "href"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text and "http://" not in text and "https://" not in text
    policy = next(a["content"] for a in found.every("meta") if a.get("http-equiv") == "Content-Security-Policy")
    style = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert len(style) == 1
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"


def test_pictures_are_told_in_words_and_tables_have_headers(page: Page) -> None:
    pictures = page.every("svg")
    assert len(pictures) == 4
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert len(ids) == sum("id" in a for _, a in page.tags)
    for picture in pictures:
        assert picture["role"] == "img" and picture["aria-labelledby"] in ids and picture["aria-describedby"] in ids
    for cut in cut_figures(plan_values.bundle()):
        assert page.text.count(f"{cut.entry.name}: {cut.entry.elements:,} elements") >= 2
    tables = len(page.every("table"))
    assert tables >= 8 and len(page.every("caption")) == tables
    assert all(header.get("scope") in ("col", "row") for header in page.every("th"))


@pytest.mark.parametrize("where", ["note", "tensor", "reason", "device", "tool", "rejected name"])
def test_whatever_names_say_is_text_only(where: str) -> None:
    plan = plan_values.plan()
    profile_changes: dict[str, object] = {}
    if where == "note":
        plan = plan.model_copy(update={"notes": (EVIL,)})
    if where == "tensor":
        cut = plan.cuts[0]
        tensor = cut.tensors[0].model_copy(update={"name": EVIL})
        plan = plan.model_copy(update={"cuts": (cut.model_copy(update={"tensors": (tensor,)}), *plan.cuts[1:])})
    if where in ("reason", "rejected name"):
        name, reason = (EVIL, "x") if where == "rejected name" else ("n1", EVIL)
        plan = plan.model_copy(update={"rejected": (RejectedCut(name=name, stage="parity", reason=reason),)})
    if where == "tool":
        plan = plan.model_copy(update={"tools": {EVIL: EVIL}})
    if where == "device":
        profile_changes = {"device": EVIL, "provider": EVIL}
    text = render_page(plan_values.bundle(plan, plan_values.profile(plan, **profile_changes)))
    assert not Page(text).every("script") and "<script" not in text and "\x00" not in text
    assert "alert(1)" in text


@pytest.mark.parametrize("nodes", [1, 2, 700, 20_000])
def test_any_length_of_graph_fits_a_small_page(nodes: int) -> None:
    many = tuple(
        RejectedCut(name=f"n{i}", stage="graph", reason=f"{i} live tensors; 3 can cross") for i in range(nodes)
    )
    plan = plan_values.plan(strip=plan_values.strip(max(nodes, 5)), nodes=nodes, rejected=many)
    text = render_page(plan_values.bundle(plan))
    assert len(text.encode()) < 1_000_000
    assert Page(text)
    if nodes == 20_000:
        assert "17,000 more are in plan.json" in text


def test_plans_without_times_frames_cuts_or_known_sizes_have_a_page_too() -> None:
    bare = plan_values.plan(calibrated=False, rows=(), cuts=(), rejected=(), notes=(), files={})
    text = Page(render_page(Bundle(plan_values.bundle().folder, plan_values.manifest(), bare, "0" * 64))).text
    assert "holds the parts only" in text and "Nowhere" in text and "None was rejected" in text
    assert "share of the work done by then" in text
    unknown = plan_values.strip().model_copy(update={"elements": (0,) * 104})
    assert Page(render_page(plan_values.bundle(plan_values.plan(strip=unknown))))
    assert Page(render_page(plan_values.bundle(plan_values.plan(strip=plan_values.strip(4)))))


def test_the_same_plan_gives_the_same_page_and_another_profile_another(bundle: Bundle) -> None:
    again = plan_values.bundle()
    assert render_page(again) == render_page(bundle)
    plan = plan_values.plan()
    two = plan_values.bundle(plan, plan_values.profile(plan, "fast", factor=0.5), plan_values.profile(plan))
    assert "Profiles; this page shows the one in bold" in render_page(two)
    assert render_page(two) != render_page(two.select(device_class="box"))


def test_the_page_lies_in_the_plans_folder_and_is_no_part_of_it(tmp_path: Path) -> None:
    written = plan_values.write_bundle(tmp_path / "a.plan")
    path = write_page(written)
    assert path == tmp_path / "a.plan" / "plan.html"
    assert path.read_text(encoding="utf-8") == render_page(written)
    assert read_bundle(written.folder).plan == written.plan


def test_a_long_strip_is_drawn_in_few_columns_that_lose_no_extreme() -> None:
    strip = plan_values.strip(5000)
    found = columns(strip, 300)
    assert len(found) == 300 and found[0].first == 0 and found[-1].after == 5000
    assert all(a.after == b.first for a, b in itertools.pairwise(found))
    known = [value for value in strip.elements if value]
    assert max(c.most for c in found) == max(known)
    assert min(c.least for c in found if c.least) == min(known)
    assert [c.share for c in found] == sorted(c.share for c in found) and found[-1].share == strip.shares[-1]
    assert [(c.first, c.after) for c in columns(plan_values.strip(7), 300)] == [(i, i + 1) for i in range(7)]


def test_cuts_stand_after_the_last_node_of_their_head(bundle: Bundle) -> None:
    assert [mark.at for mark in marks(bundle)] == [9, 20, 37, 50]
    assert [mark.short for mark in marks(bundle)] == ["n9", "n20", "n37", "m48"]
    gaps = bundle.plan.strip.model_copy(update={"index": tuple(range(0, 208, 2))})
    assert (place_of(gaps, 0), place_of(gaps, 9), place_of(gaps, 10), place_of(gaps, 9999)) == (0, 4, 5, 103)


def test_dots_are_every_row_and_the_model_itself(bundle: Bundle) -> None:
    found = {dot.point: dot for dot in dots(bundle)}
    assert found.keys() == {row.point for row in bundle.plan.rows} | {"local"}
    assert {dot.point for dot in found.values() if dot.kept} == {point.name for point in kept_points(bundle)}
    assert found["local"].edge_ms == pytest.approx(5 * plan_values.FULL_MS)
    assert found["local/small"].edge_ms == pytest.approx(5 * 4.2)
    assert found["split/n9-24x75x75+int8/u8zstd-5"].edge_ms == pytest.approx(5 * 1.1)
    assert found["frame/jpeg-95"].edge_ms == 0.0
    assert (found["frame/jpeg-95"].kind, found["split/n20-32x38x38/u8lz4-8"].kind) == ("s0", "s2")


def test_every_kept_point_is_in_the_picture_and_labels_cover_nothing(bundle: Bundle) -> None:
    for width in (900.0, 380.0):
        drawn = draw_pareto(bundle, width=width, height=460, name="p-x")
        boxes = []
        for x, y, anchor, text in re.findall(
            r'<text x="([\d.]+)" y="([\d.]+)" class="name[^"]*" text-anchor="(\w+)">([^<]+)<', drawn
        ):
            box = text_box(float(x), float(y), text, 11.0, anchor)
            assert not collides(box, boxes, margin=0.0) and box[0] >= 0 and box[2] <= width
            boxes.append(box)
        assert len(boxes) >= (len(kept_points(bundle)) if width > 600 else 12)
        for point in kept_points(bundle):
            assert f"{words(point.name)}: " in drawn


@pytest.mark.parametrize(("sent", "hidden"), [(900.0, 0), (300_000.0, 1)], ids=["smallest of all", "beaten by all"])
def test_rows_far_below_all_others_do_not_flatten_the_picture(sent: float, hidden: int) -> None:
    poor = plan_values.row("", "jpeg", 5, sent, 0.12)
    bundle = plan_values.bundle(plan_values.plan(rows=(*plan_values.rows(), poor)))
    assert (poor.point in {p.name for p in kept_points(bundle)}) is not bool(hidden)
    assert below_the_picture(bundle) == hidden
    assert ("only in the table" in render_page(bundle)) is bool(hidden)


def test_the_fewest_bytes_are_those_of_a_row_that_keeps_enough(bundle: Bundle) -> None:
    best = fewest_bytes(bundle.plan)
    assert best is not None and best.fidelity >= 0.98
    assert all(r.bytes_mean >= best.bytes_mean for r in bundle.plan.rows if r.codec and r.fidelity >= 0.98)
    assert fewest_bytes(bundle.plan, 0.9999) is None


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Scale(0, 1, 0, 100), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Scale(0.7, 1, 0, 100), [0.7, 0.8, 0.9, 1.0]),
        (Scale(0, 107, 0, 100), [0, 25, 50, 75, 100]),
        (Scale(10, 1e6, 0, 1, log=True), [10, 100, 1e3, 1e4, 1e5, 1e6]),
        (Scale(3_000, 90_000, 0, 1, log=True), [5e3, 1e4, 2e4, 5e4]),
        (Scale(5, 5, 0, 1), [5]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks() == pytest.approx(ticks)


def test_scales_map_ends_to_ends_and_clamp() -> None:
    log = Scale(1, 10_000, 50, 450, log=True)
    assert (log(1), log(100), log(10_000), log(1e9), log(0)) == (50, 250, 450, 450, 50)
    assert Scale(0, 2, 100, 0)(0.5) == 75
    assert Scale(3, 3, 7, 9)(3) == 7


def test_attributes_and_words_are_escaped() -> None:
    made = element("text", words("<&>"), class_='a"b', x=1.25, data_none=None)
    assert made == '<text class="a&quot;b" x="1.2">&lt;&amp;&gt;</text>'
    assert words("a\u202eb\x07") == "a\ufffdb\ufffd"
