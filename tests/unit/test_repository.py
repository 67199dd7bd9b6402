"""What is true of the repository as a whole: locks, make targets, links in documents, nothing tied to one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = {"dev": "dev", "edge": "edge"}
"""Lock file: the extra of pyproject.toml that it locks."""


@pytest.fixture(scope="module")
def committed(project: Path) -> list[Path]:
    """Every file that git knows of."""
    if shutil.which("git") is None or not (project / ".git").exists():
        pytest.skip("needs git and a checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=project, capture_output=True, text=True, check=True).stdout
    return [project / name for name in names.split("\0") if name and (project / name).is_file()]


def text_of(path: Path) -> str:
    """The file's text, or "" for binary files."""
    data = path.read_bytes()
    return "" if b"\0" in data[:8000] else data.decode("utf-8", "replace")


def locked(text: str) -> dict[str, list[tuple[Requirement, int]]]:
    """Pins by canonical name, each with the number of its hashes."""
    pins: dict[str, list[tuple[Requirement, int]]] = {}
    for block in re.split(r"\n(?=\S)", text):
        head = block.split("\\")[0].strip()
        if head and not head.startswith("#"):
            pin = Requirement(head)
            pins.setdefault(canonicalize_name(pin.name), []).append((pin, block.count("--hash=sha256:")))
    return pins


def direct(pyproject: dict[str, object], extra: str) -> list[Requirement]:
    """Requirements of the project and of `extra`, extras that name extras of the project followed."""
    table = pyproject["project"]
    assert isinstance(table, dict)
    found: list[Requirement] = [Requirement(r) for r in table["dependencies"]]
    open_extras, seen = [extra], set()
    while open_extras:
        name = open_extras.pop()
        seen.add(name)
        for requirement in map(Requirement, table["optional-dependencies"][name]):
            if canonicalize_name(requirement.name) == canonicalize_name(table["name"]):
                open_extras += requirement.extras - seen
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_and_hashes_everything_and_names_no_index(project: Path, lock: str) -> None:
    text = (project / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=sha256:)", text, re.MULTILINE), "a lock holds no pip options but hashes"
    pins = locked(text)
    assert len(pins) > 20
    for pin, hashes in (row for rows in pins.values() for row in rows):
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), f"{pin} is not pinned"
        assert hashes, f"{pin} has no hash"


@pytest.mark.parametrize(("lock", "extra"), LOCKS.items())
def test_a_lock_follows_pyproject(project: Path, lock: str, extra: str) -> None:
    pins = locked((project / "requirements" / f"{lock}.txt").read_text())
    wanted = direct(tomllib.loads((project / "pyproject.toml").read_text()), extra)
    assert len(wanted) > 15
    for requirement in wanted:
        rows = pins.get(canonicalize_name(requirement.name), [])
        assert rows, f"{requirement.name} is not locked: run `make lock`"
        for pin, _ in rows:
            version = str(pin.specifier).removeprefix("==")
            assert requirement.specifier.contains(version, prereleases=True), f"{pin} breaks {requirement}"


def test_locks_agree(project: Path) -> None:
    dev, edge = (locked((project / "requirements" / f"{name}.txt").read_text()) for name in ("dev", "edge"))
    assert edge.keys() <= dev.keys()
    for name, rows in edge.items():
        assert {str(pin.specifier) for pin, _ in rows} == {str(pin.specifier) for pin, _ in dev[name]}


def test_every_make_target_is_explained_and_calls_what_exists(project: Path) -> None:
    makefile = (project / "Makefile").read_text()
    phony = re.search(r"\.PHONY: ((?:.*\\\n)*.*)", makefile)
    assert phony
    targets = set(phony[1].replace("\\\n", " ").split())
    explained = set(re.findall(r"^([a-z0-9-]+):.*?## \S", makefile, re.MULTILINE))
    assert targets == explained
    for script in re.findall(r"\btools/\w+\.py", makefile):
        assert (project / script).is_file(), f"the Makefile calls {script}"
    for module in re.findall(r"-m (bench\.\w+)", makefile):
        path = project / module.replace(".", "/")
        runs = path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
        assert runs, f"the Makefile calls {module}"


def test_make_help_lists_the_targets(project: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    shown = subprocess.run(["make", "help"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in ("setup", "lab", "test", "ci", "check-arm"))


def test_links_in_documents_lead_somewhere(committed: list[Path]) -> None:
    broken = []
    for path in (p for p in committed if p.suffix == ".md"):
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text_of(path)):
            if not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_nothing_names_the_machine_it_was_written_on(project: Path, committed: list[Path]) -> None:
    """No absolute path of this very checkout, its data folder or a home folder is in any committed text."""
    here = [str(path) for path in (project, project.parent / "shared") if len(path.parts) > 2]
    pattern = re.compile("|".join([*map(re.escape, here), r"/(?:home|Users)/[a-z][\w.-]*/", r"/[r]oot/(?!\.cache)"]))
    found = [f"{p.relative_to(project)}: {m[0]}" for p in committed if (m := pattern.search(text_of(p)))]
    assert found == []


def test_only_the_package_index_of_the_user_is_used(project: Path, committed: list[Path]) -> None:
    """No file sets pip or uv to an index of its own: which one is asked is the user's choice."""
    setting = re.compile(
        r"^\s*(?:--)?(?:extra-)?(?:index-url|find-links)[ =]|^\s*\[\[tool\.uv\.index\]\]", re.MULTILINE
    )
    found = [str(p.relative_to(project)) for p in committed if setting.search(text_of(p))]
    assert found == []
