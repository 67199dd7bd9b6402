"""Tables that edges send to a worker: checked, bounded, and used for their own edge alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splitmesh.cloud.tables import MAX_PER_EDGE, MAX_SENT, Tables
from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.table import CompactTable
from splitmesh.errors import CodecError
from splitmesh.wire.requests import TableOffer

SHAPES = {"x": (1, 2, 4, 4)}
SHA = "0" * 64


def made(shape: tuple[int, ...] = (1, 2, 4, 4)) -> CompactTable:
    rng = np.random.default_rng(1)
    return fit_table({"x": rng.standard_normal((6, *shape[1:])).astype(np.float32)})


@pytest.fixture(scope="module")
def many() -> list[CompactTable]:
    """As many different ones, of which only the first was fitted."""
    first = made()
    (tensor,) = first.tensors
    others = (replace(tensor, mean=tensor.mean + np.float32(n)) for n in range(1, MAX_PER_EDGE + 3))
    return [first, *(replace(first, tensors=(other,)) for other in others)]


def offer(table: CompactTable | bytes, edge: str = "e", cut: str = "c") -> TableOffer:
    return TableOffer(edge, "m", SHA, cut, table if isinstance(table, bytes) else table.to_bytes())


def test_the_plans_own_table_serves_every_edge_and_its_own_cut(many: list[CompactTable]) -> None:
    tables = Tables({("m", "c"): many[0]})
    assert tables.lookup("any", "m", "c")(many[0].short_id) is many[0]
    for model, cut in (("m", "d"), ("n", "c")):
        assert tables.lookup("any", model, cut)(many[0].short_id) is None
    assert tables.lookup("any", "m", "c")(many[1].short_id) is None


def test_a_table_that_was_sent_serves_its_edge_alone(many: list[CompactTable]) -> None:
    tables = Tables({})
    tables.keep(offer(many[0]), SHAPES)
    found = tables.lookup("e", "m", "c")(many[0].short_id)
    assert found is not None and found.id == many[0].id
    for edge, cut in (("f", "c"), ("e", "d")):
        assert tables.lookup(edge, "m", cut)(many[0].short_id) is None


def test_what_is_no_table_of_that_cut_is_refused(many: list[CompactTable]) -> None:
    tables, raw = Tables({}), many[0].to_bytes()
    wrong = [b"x", raw[:-1], raw + b"x", b"x" + raw[1:], made((1, 3, 4, 4)).to_bytes()]
    for bad in wrong:
        with pytest.raises(CodecError):
            tables.keep(offer(bad), SHAPES)
    with pytest.raises(CodecError):
        tables.keep(offer(raw), {})
    with pytest.raises(CodecError):
        tables.keep(offer(raw), {"y": (1, 2, 4, 4)})
    assert len(tables) == 0


def test_an_edge_keeps_the_tables_that_it_used_last(many: list[CompactTable]) -> None:
    tables = Tables({})
    for table in many[:MAX_PER_EDGE]:
        tables.keep(offer(table), SHAPES)
    find = tables.lookup("e", "m", "c")
    assert find(many[0].short_id)
    tables.keep(offer(many[MAX_PER_EDGE]), SHAPES)
    assert len(tables) == MAX_PER_EDGE
    assert find(many[0].short_id) and find(many[1].short_id) is None


def test_the_same_table_again_takes_no_more_room(many: list[CompactTable]) -> None:
    tables = Tables({})
    for _ in range(5):
        tables.keep(offer(many[0]), SHAPES)
    assert len(tables) == 1 and tables._bytes == len(many[0].to_bytes())


def test_a_thousand_edges_fill_no_more_than_the_limit(many: list[CompactTable]) -> None:
    tables = Tables({})
    for number in range(1000):
        tables.keep(offer(many[0], f"e{number}"), SHAPES)
    assert len(tables) == MAX_SENT
    assert tables.lookup("e999", "m", "c")(many[0].short_id) and not tables.lookup("e0", "m", "c")(many[0].short_id)


def test_bytes_are_bounded_too(many: list[CompactTable]) -> None:
    room_bytes = int(3.5 * len(many[0].to_bytes()))
    tables = Tables({}, most_bytes=room_bytes)
    for number, table in enumerate(many):
        tables.keep(offer(table, f"e{number}"), SHAPES)
    assert len(tables) == 3 and tables._bytes <= room_bytes
