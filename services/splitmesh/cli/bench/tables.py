"""Owns the tables that `splitmesh bench` prints. Measures nothing."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitmesh.plan.bd_rate import HIGH, LOW, bytes_at
from splitmesh.provision.codec_bench.curves import ANCHORS, DECIDED, PICTURE, Comparison, Curve

NAMES = {"jpeg": "JPEG", "webp": "WebP", "x264_intra": "x264 intra", "x264_inter": "x264 inter"}
SHOWN_AT = 0.95
"""Bytes, bits and times are those at this fidelity."""
DECIDED_AT = 0.99
"""And bits of a classifier's decided answers at this one."""


def show_comparison(console: Console, comparison: Comparison) -> None:
    """What was compared, a line per codec and cut, and what is missing."""
    frames = comparison.frames
    stills = f" and {frames['images']} pictures" if frames["images"] else ""
    told = f"{frames['video']} frames{stills}, {frames['judged']} of which show something to the model"
    if frames.get("decided"):
        told += f", {frames['decided']} with a class of p ≥ {DECIDED:g}"
    console.print(Text.assemble((comparison.model, "bold"), f"  {comparison.measure} over {told}"))
    console.print(_table(comparison))
    console.print(
        Text(
            f"Bytes, bits per element and ms: at fidelity {SHOWN_AT:g}, or at what is in brackets if no level keeps "
            "so much. The last four: mean bytes against those codecs of the picture, at equal fidelity within "
            f"{LOW} … {HIGH}; – where two curves share none of it.",
            style="dim",
        )
    )
    for times_of, times in comparison.part_ms.items():
        console.print(Text(f"{times_of}: head {times.head:.2f} ms, tail {times.tail:.2f} ms", style="dim"))
    for curve in comparison.compared():
        if (sure := _decided(curve)) is not None:
            where = f"{curve.cut or 'picture'}, {NAMES.get(curve.codec, curve.codec)}"
            text = f"{where}: {sure:.3f} bits keep {DECIDED_AT:g} of the answers with a class of p ≥ {DECIDED:g}"
            console.print(Text(text, style="dim"))
    for reason in comparison.left_out:
        console.print(Text(f"left out: {reason}", style="yellow"))


def _decided(curve: Curve) -> float | None:
    """Bits per element of the coarsest level that keeps `DECIDED_AT` of the answers that are no toss-up."""
    bits = [
        point.decided_bits_per_element
        for point in curve.points
        if point.decided_bits_per_element is not None and (point.decided_fidelity or 0) >= DECIDED_AT
    ]
    return min(bits, default=None)


def _table(comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for name in ("cut", "codec"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "bits", "enc ms", "dec ms", *(NAMES[anchor] for anchor in ANCHORS)):
        table.add_column(name, justify="right", no_wrap=True)
    anchors = [curve for curve in comparison.curves if curve.cut == PICTURE and curve.codec in ANCHORS]
    before = None
    for curve in [*anchors, *comparison.compared()]:
        if before not in (None, curve.cut):
            table.add_section()
        where = (curve.cut or "picture") if curve.cut != before else ""
        before = curve.cut
        rates = [Text("") if curve in anchors else _percent(comparison.against(curve, a).percent) for a in ANCHORS]
        table.add_row(where, NAMES.get(curve.codec, curve.codec), *_at(curve), *rates)
    return table


def _at(curve: Curve) -> tuple[str, str, str, str]:
    """Bytes and bits by interpolation, times of the level that comes closest."""
    size, mark = bytes_at(curve.rate, SHOWN_AT), ""
    if size is None:
        finest = max(curve.points, key=lambda point: point.fidelity)
        size, mark = finest.bytes, f"({finest.fidelity:.2f}) "
    closest = min(curve.points, key=lambda point: abs(point.bytes - size))
    bits = closest.bits_per_element * size / closest.bytes
    return f"{mark}{size:,.0f}", f"{bits:.3f}", f"{closest.encode_ms:.2f}", f"{closest.decode_ms:.2f}"


def _percent(value: float | None) -> Text:
    if value is None:
        return Text("–", style="dim")
    digits = 1 if abs(value) < 100 else 0
    return Text(f"{value:+,.{digits}f} %".replace("-", "−"), style="green" if value < 0 else "red")
