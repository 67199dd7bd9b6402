import random

from splitmesh.media.backoff import Backoff


def test_doubles_up_to_the_limit_within_the_jitter_and_starts_over() -> None:
    backoff = Backoff(first_s=0.5, max_s=4.0, rng=random.Random(1))
    for ceiling in (0.5, 1.0, 2.0, 4.0, 4.0, 4.0):
        assert ceiling / 2 <= backoff.next_s() <= ceiling
    backoff.succeeded()
    assert backoff.next_s() <= 0.5


def test_many_cameras_do_not_come_back_at_once() -> None:
    delays = {round(Backoff(rng=random.Random(seed)).next_s(), 3) for seed in range(20)}
    assert len(delays) > 15


def test_never_overflows() -> None:
    backoff = Backoff()
    assert all(backoff.next_s() <= 15.0 for _ in range(5000))
