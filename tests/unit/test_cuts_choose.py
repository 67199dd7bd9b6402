from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.plan.cuts.choose import Screened, keep, passed_over, shortlist, useful
from splitmesh.plan.cuts.cut import Crossing, Cut


def cut(share: float, elements: int, *, name: str = "", tensors: int = 1) -> Cut:
    """Of a model with 1000 input elements."""
    index = round(share * 100)
    shape = (1, 1, index + 1, max(1, elements // tensors // (index + 1)))
    crossings = tuple(Crossing(f"t{index}{i}", shape, "float32", shape, f"t{index}{i}") for i in range(tensors))
    return Cut(name or f"n{index}", crossings, elements, index, share, elements / 1000)


EARLY, TWIN, MIDDLE, LATE, DONE = cut(0.2, 400), cut(0.22, 420), cut(0.45, 100), cut(0.7, 150), cut(0.99, 10)


def test_shortlist_is_small_cuts_that_differ_in_head_share() -> None:
    assert shortlist([EARLY, TWIN, MIDDLE, LATE, DONE]) == [EARLY, MIDDLE, LATE], "the twin adds nothing"
    assert shortlist([EARLY, MIDDLE, LATE], 2) == [MIDDLE, LATE]
    assert shortlist([]) == []


def test_what_is_of_little_use_fills_up_to_three() -> None:
    assert shortlist([EARLY, TWIN, DONE]) == [EARLY, TWIN, DONE]
    assert shortlist([EARLY, DONE]) == [EARLY, DONE]
    assert shortlist([DONE, cut(0.01, 20)], 1) == [DONE]


def test_a_clearly_smaller_cut_is_worth_having_beside_a_large_one() -> None:
    small = cut(0.21, 90, name="m7-1x9x9-1234abcd")
    assert shortlist([EARLY, small, MIDDLE, LATE, cut(0.8, 90)]) == [EARLY, small, MIDDLE, LATE, cut(0.8, 90)]


def test_several_tensors_that_one_betters_come_behind_the_first_four() -> None:
    plain = [cut(share, 200 + round(100 * share)) for share in (0.1, 0.2, 0.3, 0.4)]
    several = cut(0.6, 300, tensors=2)
    assert shortlist([*plain, several], 4) == plain
    assert shortlist([*plain, several], 5) == [*plain, several]


def test_what_is_passed_over_has_its_reason() -> None:
    large, first = cut(0.3, 1200), cut(0.01, 100)
    cuts = [first, EARLY, TWIN, large, MIDDLE, LATE, DONE]
    why = {r.name: r.reason for r in passed_over(cuts, shortlist(cuts))}
    assert why == {
        "n1": "its head does 1.0 % of the work: the picture re-arranged",
        "n22": "adds little to n20, whose head does 20 % of the work (here 22 %)",
        "n30": "20 % larger than the picture",
        "n99": "its head does 99.0 % of the work: one may as well finish",
    }


def test_keep_drops_what_serves_nobody() -> None:
    before, between, behind = cut(0.2, 1), cut(0.4, 1), cut(0.6, 1)
    measured = {"n20": Screened(900, 0.99), "n40": Screened(1000, 0.98), "n60": Screened(800, 0.99)}
    kept, rejected = keep([before, between, behind], measured)
    assert kept == [before, behind]
    (gone,) = rejected
    assert (gone.name, gone.stage) == ("n40", "pareto")
    assert gone.reason == "n20 before and n60 behind it send no more and keep no less"


@pytest.mark.parametrize(
    ("share", "measured", "stays"),
    [
        (0.4, Screened(1000, 0.99), True),  # the only one so late: for a slow worker
        (0.1, Screened(2000, 0.99), True),  # the only one so early: for a slow edge
        (0.22, Screened(1000, 0.99), False),  # sends more for the same
        (0.22, Screened(900, 0.985), False),  # and no difference that tens of frames could tell
        (0.22, Screened(700, 0.90), True),  # sends less
        (0.22, Screened(1000, 1.0), True),  # keeps more
        (0.4, Screened(100, 0.2), False),  # coding breaks it
        (0.7, Screened(3000, 0.99), True),  # saves a tenth per byte of what the other saves, and a little
        (0.7, Screened(3800, 0.99), False),  # the whole model here is hardly slower, and sends nothing
    ],
)
def test_keep_weighs_bytes_fidelity_and_place(share: float, measured: Screened, stays: bool) -> None:
    other = cut(share, 1, name="n9")
    kept, rejected = keep([EARLY, other], {"n20": Screened(900, 0.99), "n9": measured})
    assert (other in kept) == stays
    assert len(kept) + len(rejected) == 2


def test_keep_spreads_over_the_head_shares() -> None:
    cuts = [cut(share, 1) for share in (0.1, 0.16, 0.3, 0.36, 0.5, 0.56, 0.8)]
    measured = {c.name: Screened(1000 + 10 * c.node_index, 0.99) for c in cuts}
    kept, rejected = keep(cuts, measured)
    shares = [c.head_share for c in kept]
    assert len(kept) == 4 and shares == sorted(shares)
    assert shares[0] == 0.1 and shares[-1] == 0.8
    assert all("kept ones" in r.reason for r in rejected)


def test_keep_needs_every_cut_screened() -> None:
    with pytest.raises(KeyError):
        keep([EARLY], {})


CUTS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(1, 3000), st.integers(1, 3)),
    max_size=20,
    unique_by=lambda facts: facts[0],
).map(lambda rows: [cut(share / 100, size, tensors=count) for share, size, count in rows])


@given(CUTS, st.permutations(range(20)))
def test_the_shortlist_hangs_on_the_cuts_not_on_their_order(cuts: list[Cut], order: list[int]) -> None:
    chosen = shortlist(cuts)
    shuffled = [cuts[i] for i in order if i < len(cuts)]
    assert shortlist(shuffled) == chosen
    assert len(chosen) <= 8
    assert len(chosen) >= min(3, len(cuts))
    assert sum(not useful(c) for c in chosen) <= 3
    assert {r.name for r in passed_over(cuts, chosen)} == {c.name for c in cuts} - {c.name for c in chosen}


@given(CUTS, st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=20, max_size=20))
def test_of_any_cuts_some_are_kept_and_each_other_has_a_reason(cuts: list[Cut], rows: list[tuple[int, int]]) -> None:
    measured = {c.name: Screened(100.0 * size, f / 20) for c, (size, f) in zip(cuts, rows, strict=False)}
    kept, rejected = keep(cuts, measured)
    assert min(1, len(cuts)) <= len(kept) <= 4
    assert sorted([*(c.name for c in kept), *(r.name for r in rejected)]) == sorted(c.name for c in cuts)
    again, _ = keep(cuts[::-1], measured)
    assert again == kept
