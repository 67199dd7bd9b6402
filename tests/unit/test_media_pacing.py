from splitmesh.media.pacing import Pacer

S = 1_000_000_000


def test_the_first_picture_sets_the_clock() -> None:
    pacer = Pacer()
    assert [pacer.capture_ns(pts, 100 * S) for pts in (3 * S, 4 * S, 5 * S)] == [100 * S, 101 * S, 102 * S]


def test_a_late_decoder_does_not_move_capture_times() -> None:
    pacer = Pacer()
    pacer.capture_ns(0, 100 * S)
    assert pacer.capture_ns(S, 102 * S) == 101 * S
    assert pacer.resyncs == 0


def test_after_a_long_stall_the_clock_is_set_anew_once() -> None:
    pacer = Pacer()
    pacer.capture_ns(0, 100 * S)
    assert pacer.capture_ns(S, 102 * S + 1) == 102 * S + 1
    assert pacer.capture_ns(2 * S, 102 * S + 2) == 103 * S + 1
    assert pacer.resyncs == 1
