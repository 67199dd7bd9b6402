"""Owns how manifests become a picture: sites on the left, the broker in the middle, the centre on the right. SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

_WIDTH, _LINE, _PAD, _GAP = 250, 18, 12, 22
_COLUMNS = {"site": 20, "broker": 370, "centre": 720}
_COLOURS = {"edge": "#e8f1fb", "broker": "#fdf3dc", "cloud": "#e9f6ea", "gateway": "#f3ebfa", "external": "#f2f2f2"}
_STYLE = (
    "svg{font:13px sans-serif}.box{stroke:#888}.title{font-size:18px}.title,.name{font-weight:bold}.link{stroke:#555}"
    ".port{font-size:11px;fill:#555;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:4px}"
)

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Box:
    """link: what it says on the way to the broker."""

    column: str
    kind: str
    lines: tuple[str, ...]
    link: str = ""

    @property
    def height_px(self) -> int:
        return 2 * _PAD + _LINE * len(self.lines)


def boxes(manifests: Sequence[Manifest]) -> list[Box]:
    """One for each thing that runs, as the manifests tell it."""
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]
        for each in manifests
        if each["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    }
    found = []
    for each in manifests:
        if each["kind"] in ("DaemonSet", "Deployment", "StatefulSet"):
            found.append(_box(each, scaled.get(each["metadata"]["name"])))
    if not any(box.kind == "broker" for box in found):
        urls = sorted(
            {url for each in manifests for url in _variables(each, "SPLITMESH_NATS_URL") if "127.0" not in url}
        )
        found.append(Box("broker", "external", ("broker that is there", *urls)))
    return found


def _box(manifest: Manifest, scaled: Mapping[str, Any] | None) -> Box:
    labels, spec = manifest["metadata"]["labels"], manifest["spec"]
    kind, name = labels["app.kubernetes.io/component"], manifest["metadata"]["name"]
    pod = spec["template"]["spec"]
    if kind == "edge":
        leaf = any(each["name"] == "leaf" for each in pod.get("initContainers", ()))
        where = ", ".join(
            f"{key.partition('/')[2] or key}={value}" for key, value in pod.get("nodeSelector", {}).items()
        )
        parts = [f"on nodes {where}" if where else "on every node", "edge + leaf broker" if leaf else "edge"]
        tenant = _variables(manifest, "SPLITMESH_EDGE_TENANT")[0]
        runtime = [f"runtime {pod['runtimeClassName']}"] if "runtimeClassName" in pod else []
        return Box(
            "site", kind, (name, *parts, f"tenant {tenant}", *runtime), "leafnode 7422" if leaf else "client 4222"
        )
    count = f"{spec.get('replicas')} replicas" if scaled is None else _bounds(scaled)
    if kind == "broker":
        return Box("broker", kind, (name, count, "4222 clients, 7422 leaf nodes"))
    about = (
        "tenants " + _variables(manifest, "SPLITMESH_CLOUD_TENANTS")[0] if kind == "cloud" else "page 9466, gRPC 9470"
    )
    names = [
        each.partition(":")[0]
        for each in about.removeprefix("tenants ").split(",")
        if "=" not in each.partition(":")[0]
    ]
    shown = f"tenants {', '.join(names)}" if kind == "cloud" else about
    return Box("centre", kind, (name, count, shown), "client 4222")


def _bounds(scaled: Mapping[str, Any]) -> str:
    least = scaled.get("minReplicas", scaled.get("minReplicaCount"))
    most = scaled.get("maxReplicas", scaled.get("maxReplicaCount"))
    return f"{least} to {most} replicas, by predicted wait"


def _variables(manifest: Manifest, name: str) -> list[str]:
    spec = manifest.get("spec", {}).get("template", {}).get("spec", {})
    return [
        each["value"]
        for container in spec.get("containers", ())
        for each in container.get("env", ())
        if each["name"] == name and "value" in each
    ]


def picture(title: str, manifests: Sequence[Manifest]) -> str:
    """An SVG document of what `manifests` start and of who connects to the broker."""
    found = boxes(manifests)
    heights = {column: sum(box.height_px + _GAP for box in found if box.column == column) for column in _COLUMNS}
    tallest = max(heights.values())
    y = {column: 64 + (tallest - height) // 2 for column, height in heights.items()}
    (broker,) = [box for box in found if box.column == "broker"]
    middle = y["broker"] + broker.height_px // 2
    drawn = []
    for box in found:
        x, top = _COLUMNS[box.column], y[box.column]
        drawn.append(_drawn(box, x, top))
        if box.link:
            left = box.column == "site"
            start, end = (x + _WIDTH, _COLUMNS["broker"]) if left else (x, _COLUMNS["broker"] + _WIDTH)
            drawn.append(_arrow(start, top + box.height_px // 2, end, middle, box.link))
        y[box.column] += box.height_px + _GAP
    width, height = _COLUMNS["centre"] + _WIDTH + 20, 64 + tallest
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n'
        f'<text class="title" x="20" y="32">{escape(title)}</text>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _drawn(box: Box, x: int, y: int) -> str:
    fill = _COLOURS[box.kind]
    parts = [f'<rect class="box" x="{x}" y="{y}" width="{_WIDTH}" height="{box.height_px}" rx="6" fill="{fill}"/>']
    for number, line in enumerate(box.lines):
        name = "text" if number else "name"
        parts.append(
            f'<text class="{name}" x="{x + _PAD}" y="{y + _PAD + 13 + _LINE * number}">{escape(line)}</text>'
        )
    return "".join(parts)


def _arrow(x: int, y: int, to_x: int, to_y: int, label: str) -> str:
    text_x, text_y = (x + to_x) // 2, (y + to_y) // 2 + 4
    return (
        f'<path class="link" d="M{x} {y}L{to_x} {to_y}" marker-end="url(#tip)"/>'
        f'<text class="port" x="{text_x}" y="{text_y}">{label}</text>'
    )
