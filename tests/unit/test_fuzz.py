"""Fuzzing, a short run: every decoder with a few thousand mutated payloads; and that the fuzzer finds faults."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from tools import fuzz, fuzz_run
from tools.fuzz_mutate import MAX_BYTES, mutated

CASES = 3000
SLOW = {"planes_pure": 500}


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_decoders_survive_what_is_no_payload(name: str, tmp_path: Path) -> None:
    cases = SLOW.get(name, CASES)
    tally = fuzz_run.fuzz(fuzz.TARGETS[name], tmp_path, cases=cases, seed=20)
    assert tally.findings == []
    assert tally.cases == cases == tally.refused + tally.decoded
    assert tally.refused and tally.decoded, "mutations must reach both ends of the decoder"


@pytest.mark.parametrize(
    ("fault", "kind", "place"),
    [
        ("raises", "exception", "KeyError at fuzz_faults.py"),
        ("wrong", "result", "WrongResult at fuzz_faults.py"),
        ("hoards", "memory", "MemoryError at fuzz_faults.py"),
        ("crashes", "crash", "SIGSEGV"),
        ("waits", "hang", "hang"),
        ("spins", "slow", "slow"),
    ],
)
def test_each_kind_of_fault_is_found_and_its_payload_kept(
    fault: str, kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_run, "HANG_S", 1.5 if fault == "waits" else 20.0)
    cases = 10 if fault in ("spins", "waits") else 1000
    tally = fuzz_run.fuzz(f"tests.unit.fuzz_faults:{fault}", tmp_path, cases=cases, seed=1, seconds=60)
    assert [found["kind"] for found in tally.findings] == [kind]
    assert place in tally.findings[0]["place"]
    payload = Path(tally.findings[0]["payload"]).read_bytes()
    assert payload[:2] == b"SM" and payload[10:11] != bytes([8])


def test_a_sound_decoder_has_no_faults_and_the_same_seed_gives_the_same_counts(tmp_path: Path) -> None:
    runs = [fuzz_run.fuzz("tests.unit.fuzz_faults:sound", tmp_path, cases=2500, seed=seed) for seed in (3, 3, 4)]
    assert all(run.findings == [] and run.cases == 2500 for run in runs)
    assert runs[0].decoded == runs[1].decoded != runs[2].decoded
    assert list(tmp_path.iterdir()) == []


def test_a_decoder_that_refuses_good_payloads_is_a_fault_and_ends_the_run(tmp_path: Path) -> None:
    tally = fuzz_run.fuzz("tests.unit.fuzz_faults:refuses_good", tmp_path, cases=1000, seed=1)
    assert tally.cases == 0 and [found["kind"] for found in tally.findings] == ["crash"]


def test_mutations_follow_the_seed_stay_bounded_and_mostly_change_the_payload() -> None:
    seeds = [bytes(range(200)), bytes(100)]
    payloads = [bytes(mutated(seeds, rng)) for rng in [Random(5)] for _ in range(2000)]
    assert payloads == [bytes(mutated(seeds, rng)) for rng in [Random(5)] for _ in range(2000)]
    assert max(map(len, payloads)) <= MAX_BYTES
    assert sum(payload not in seeds for payload in payloads) > 1800
    mutated([b"", b"x"], Random(1))


def test_a_run_that_was_cut_short_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "TARGETS", {"sound": "tests.unit.fuzz_faults:sound"})

    def run(*args: str) -> int:
        monkeypatch.setattr("sys.argv", ["fuzz", "--out", str(tmp_path), "--only", "sound", *args])
        return fuzz.main()

    assert run("--count", "2000") == 0
    assert run("--count", "5000", "--more") == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    row = summary["targets"]["sound"]
    assert (row["cases"], row["blocks"]) == (5000, 5)
    (tmp_path / "summary.json").write_text(json.dumps({"seed": 1, "targets": {"other": row, "sound": row}}))
    assert run("--count", "10000000", "--more", "--seconds", "0.01") == fuzz.TOO_FEW
    monkeypatch.setitem(fuzz.TARGETS, "sound", "tests.unit.fuzz_faults:raises")
    assert run("--count", "1000") == fuzz.FAULTS
    assert json.loads((tmp_path / "summary.json").read_text())["targets"]["other"] == row
    assert "KeyError at fuzz_faults.py" in capsys.readouterr().out
