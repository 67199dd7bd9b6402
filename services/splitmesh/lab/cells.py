"""Owns the small pieces of a lab run's page: figures for people, tables, bars. Pure; escapes nothing."""

from __future__ import annotations

from collections.abc import Sequence

_BAR_PX = 110


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """An HTML table; cells are HTML already, columns in `numeric` are right-aligned."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i in numeric else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def share(value: float | None) -> str:
    """`"97.3 %"`, or `"–"` for nothing measured."""
    return "–" if value is None else f"{100 * value:.1f} %"


def amount(value: float | None, unit: str = "", digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}{unit}"


def size(count: float) -> str:
    """Bytes for people: `"812 B"`, `"14.2 kB"`, `"3.10 MB"`."""
    if count >= 1e6:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count:.0f} B"


def bar(part: float, colour: str) -> str:
    """A bar of the share `part`, [0, 1], of the longest."""
    width = round(_BAR_PX * part)
    return f'<span class="bar" style="width:{width}px;background:{colour}"></span>'
