"""The plan of the house, as docs/architecture.md draws it: no arrow rightwards, no circle; small rooms."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("adapt", "export", "serve")
MOST_FILES, MOST_LINES = 12, 300

LINES = dict(
    re.findall(
        r"^(\w+(?:\.\w+)*): (\w+(?:(?: <|,) \w+)*)$", (ROOT / "docs/architecture.md").read_text(), re.M
    )
)
"""Of the plan, by the package that each is about."""


def module_of(path: Path) -> str:
    """The module of a file below the root; a package's __init__.py is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules of ours that are imported, also inside functions; of a name in a package, the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known or node.module in known:
                    yield inner if inner in known else str(node.module)


ARROWS = {
    module: set(imported(ast.parse(path.read_text()), set(MODULES))) - {module}
    for module, path in MODULES.items()
}


def rightward(line: str, package: str, arrows: dict[str, set[str]]) -> list[str]:
    """Imports within `package` that the line does not allow, and places that it does not name."""
    rank = {place: i for i, group in enumerate(line.split(" < ")) for place in group.split(", ")}
    faults = []
    for module, targets in arrows.items():
        ours = place_in(module, package)
        if ours is None:
            continue
        if ours not in rank:
            faults.append(f"{module} is not in the line")
        theirs = {place_in(target, package): target for target in targets}
        for place, target in theirs.items():
            if place not in (None, ours) and rank.get(str(place), -1) >= rank.get(ours, -1):
                faults.append(f"{module} -> {target}")
    return sorted(faults)


def place_in(module: str, package: str) -> str | None:
    """The part of a package that a module belongs to; None outside, and for what starts or opens a room."""
    inside = module.removeprefix(f"{package}.")
    return None if inside == module or inside == "__main__" else inside.split(".")[0]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    left = dict(arrows)
    while left:
        free = [module for module, targets in left.items() if not targets & left.keys()]
        if not free:
            break
        for module in free:
            del left[module]
    while wanted := {target for targets in left.values() for target in targets} & left.keys():
        if len(wanted) == len(left):
            break  # what is left is in circles, or between them
        left = {module: targets for module, targets in left.items() if module in wanted}
    return sorted(left)


def test_the_plan_has_a_line_for_every_room():
    assert set(ROOMS) <= set(LINES)


@pytest.mark.parametrize("package", LINES)
def test_no_arrow_goes_rightwards(package):
    assert rightward(LINES[package], package, ARROWS) == []


@pytest.mark.parametrize("package", LINES)
def test_every_place_in_a_line_exists(package):
    folder = ROOT / package.replace(".", "/")
    for place in re.findall(r"\w+", LINES[package]):
        assert (folder / place).is_dir() or (folder / f"{place}.py").is_file(), place


def test_no_imports_go_in_a_circle():
    rooms_aside = {m: {t for t in ts if t not in ROOMS} for m, ts in ARROWS.items() if m not in ROOMS}
    assert circle(rooms_aside) == []


def test_no_room_imports_its_own_door():
    """`serve` hands on what lies inside; inside, that would be a way round the plan."""
    for module, targets in ARROWS.items():
        assert not targets & {module.split(".")[0]}, module


def test_faults_would_be_seen():
    arrows = {"a.x": {"a.z"}, "a.y": {"a.x"}, "a.z": {"a.y"}, "a.w": set(), "a.v": {"a.w"}}
    assert rightward("x < y < z, v, w", "a", arrows) == ["a.v -> a.w", "a.x -> a.z"]
    assert rightward("x", "a", {"a.n": set()}) == ["a.n is not in the line"]
    assert circle(arrows) == ["a.x", "a.y", "a.z"]
    assert circle({"a.x": {"a.y"}, "a.y": set()}) == []
    hidden = "def f():\n    from a.y import name\n    import a.z\n"
    assert set(imported(ast.parse(hidden), {"a.y", "a.z"})) == {"a.y", "a.z"}


def crowded(files: list[Path]) -> dict[str, int]:
    """Folders that hold too many of the files."""
    counts = Counter(str(path.parent) for path in files)
    return {folder: count for folder, count in counts.items() if count > MOST_FILES}


def lengthy(files: list[Path]) -> dict[str, int]:
    """Files of too many lines."""
    lines = {str(path): len(path.read_text().splitlines()) for path in files}
    return {path: count for path, count in lines.items() if count > MOST_LINES}


@pytest.mark.parametrize("top", [*ROOMS, "tests"])
def test_folders_and_files_are_small(top):
    files = sorted((ROOT / top).rglob("*.py"))
    assert files and crowded(files) == {} and lengthy(files) == {}


def test_crowded_folders_and_long_files_would_be_seen(tmp_path):
    files = [tmp_path / f"{i}.py" for i in range(MOST_FILES + 1)]
    for path in files:
        path.write_text("\n" * MOST_LINES)
    assert crowded(files) == {str(tmp_path): MOST_FILES + 1} and crowded(files[1:]) == {}
    assert lengthy(files) == {}
    files[3].write_text("\n" * (MOST_LINES + 1))
    assert lengthy(files) == {str(files[3]): MOST_LINES + 1}


def test_tests_mirror_the_packages():
    """tests/adapt/data/test_layouts.py is about adapt/data; a benchmark's are beside it; none imports one."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        of_a_benchmark = folder.parts[:1] == ("bench",)
        assert folder == Path() or of_a_benchmark or (ROOT / folder / "__init__.py").is_file(), path
        assert not re.search(r"^\s*(from|import) test_", path.read_text(), re.M), path
