"""Adding up: exact, in any order, in little memory, and never of what does not belong together."""

import random
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gathered_files import HOUR, MORNING, drawn, subject, write_file
from serve_commands import expect_refusal, serve

from serve.fleet.cluster import merge_on_cluster
from serve.fleet.merge import Grouping, find_gathered
from serve.gathering.store import Gathered


@pytest.fixture
def fleet(tmp_path: Path) -> list[Path]:
    """Four devices, three hours each, of which the third begins later; in folders of their own."""
    rng, of = np.random.default_rng(0), subject()
    files = []
    for n in range(4):
        (tmp_path / "fleet" / f"d{n}").mkdir(parents=True)
        counts = [drawn(of, rng, 300) for _ in range(3)]
        first = MORNING + (2 * HOUR if n == 2 else 0)
        files.append(
            write_file(tmp_path / "fleet" / f"d{n}/day.safetensors", of, counts, device=f"d{n}", first=first)
        )
    return files


def values(path: Path) -> dict[tuple[int, str], np.ndarray]:
    gathered = Gathered(path)
    return {(r.slot, r.device): gathered.counts(n).values for n, r in enumerate(gathered.head.records)}


def summed(files: list[Path], name, slot: int = HOUR) -> dict[tuple[int, str], np.ndarray]:
    total: dict[tuple[int, str], np.ndarray] = {}
    for path in files:
        for (start, device), each in values(path).items():
            key = start // slot * slot, name(device)
            total[key] = total.get(key, 0) + each
    return total


def merged(inputs: list[Path], out: Path, *options: object) -> Path:
    result = serve("merge", *inputs, "-o", out, *options)
    assert result.exit_code == 0, result.output
    return out


def check(path: Path, expected: dict[tuple[int, str], np.ndarray]) -> None:
    found = values(path)
    assert list(found) == sorted(expected)
    for key, each in expected.items():
        np.testing.assert_array_equal(found[key], each)


def test_slots_of_all_devices_are_added(fleet: list[Path], tmp_path: Path) -> None:
    out = merged([tmp_path / "fleet"], tmp_path / "all")
    check(out, summed(fleet, lambda _: ""))
    head = Gathered(out).head
    assert sum(r.frames for r in head.records) == 4 * 3 * 7 and head.by == "slot"
    assert head.records[0].first == MORNING + 5 and head.records[0].outside == 0


def test_the_order_and_the_way_change_nothing(fleet: list[Path], tmp_path: Path) -> None:
    expected = merged(fleet, tmp_path / "all").read_bytes()
    for seed in range(3):
        order = random.Random(seed).sample(fleet, 4)
        assert merged(order, tmp_path / f"o{seed}").read_bytes() == expected
        a, b = merged(order[:3], tmp_path / f"a{seed}"), merged(order[3:], tmp_path / f"b{seed}")
        assert merged([b, a], tmp_path / f"ab{seed}").read_bytes() == expected
    assert merged([tmp_path / "fleet/*/day.*", fleet[0]], tmp_path / "p").read_bytes() == expected


def test_by_device_by_column_and_longer_slots(fleet: list[Path], tmp_path: Path) -> None:
    check(merged(fleet, tmp_path / "dev", "--by", "device"), summed(fleet, str))
    check(merged(fleet, tmp_path / "day", "--slot", "2h"), summed(fleet, lambda _: "", 2 * HOUR))
    (tmp_path / "t.csv").write_text("device,city,mast\nd0,Ulm,1\nd1,Ulm,2\nd2,Bonn,3\nd3,Ulm,4\n")
    city = {"d0": "Ulm", "d1": "Ulm", "d2": "Bonn", "d3": "Ulm"}.get
    table = ("--by", "city", "--table", tmp_path / "t.csv")
    out = merged(fleet, tmp_path / "city", *table)
    check(out, summed(fleet, city))
    again = [merged(fleet[:2], tmp_path / "c1", *table), merged(fleet[2:], tmp_path / "c2", *table)]
    assert merged(again, tmp_path / "c3", *table).read_bytes() == out.read_bytes()


def test_what_does_not_belong_together_is_refused(fleet: list[Path], tmp_path: Path) -> None:
    of = subject(network="another")
    other = write_file(tmp_path / "other", of, [drawn(of, np.random.default_rng(1))])
    out = tmp_path / "out"
    (tmp_path / "t.csv").write_text("device,city\nd0,Ulm\n")
    (tmp_path / "bad.csv").write_text("device,city\nd0,Ulm\nd0,Bonn\n")
    minutes = write_file(tmp_path / "minutes", subject(), [], slot=7)
    copy = shutil.copy(fleet[0], tmp_path / "copy")
    slots = merged(fleet, tmp_path / "slots")
    table = ("--by", "city", "--table")
    for arguments, words in (
        ((*fleet, other), "other is of another network"),
        ((fleet[0], copy), "hold the same counts"),
        ((*fleet, minutes), "do not fit into 3600 s"),
        ((*fleet, "--slot", "5400s"), "do not fit into 5400 s"),
        ((slots, "--by", "device"), "was merged by slot"),
        ((*fleet, "--by", "city"), "give the table"),
        ((*fleet, "--table", tmp_path / "t.csv"), "leave it out"),
        ((*fleet, *table, tmp_path / "t.csv"), "the device d1, which the table does not name"),
        ((*fleet, *table, tmp_path / "bad.csv"), "names a device twice"),
        ((*fleet, "--by", "town", "--table", tmp_path / "t.csv"), "has no column 'town'"),
        ((*fleet, *table, tmp_path / "none.csv"), "can't be read as CSV"),
        ((tmp_path / "nothing*",), "holds no gathered file"),
        ((tmp_path / "t.csv",), "no whole safetensors file"),
    ):
        expect_refusal(serve("merge", *arguments, "-o", out), words)
        assert not out.exists(), words
    expect_refusal(serve("merge", *fleet, "-o", fleet[0], "--force"), "is one of the files to merge")
    expect_refusal(serve("merge", *fleet, "-o", slots), "--force")


def test_a_file_given_twice_counts_once(fleet: list[Path], tmp_path: Path) -> None:
    assert find_gathered([str(fleet[0]), str(fleet[0].parent), str(fleet[0].parent / "*")]) == [fleet[0]]


def test_a_cluster_gives_the_same_file(fleet: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for by in ("slot", "device"):
        expected = merged(fleet, tmp_path / by, "--by", by).read_bytes()
        merge_on_cluster(fleet, tmp_path / f"{by} by many", Grouping(by), "local", files=2)
        assert (tmp_path / f"{by} by many").read_bytes() == expected
    assert not list(tmp_path.glob(".*"))


MEMORY = """
import resource, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from serve.fleet.merge import Grouping, find_gathered, plan_merge, write_merged
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_merged(plan_merge(find_gathered([{folder!r}]), Grouping("device")), Path({out!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_what_is_counted(tmp_path: Path, root: Path) -> None:
    """200 files of 12 slots, whose counts of 8 classes would take 330 MB at once, in a tenth of that."""
    of = subject(8)
    counts = [drawn(of, np.random.default_rng(n), 500) for n in range(12)]
    (tmp_path / "many").mkdir()
    for n in range(200):
        write_file(tmp_path / f"many/{n}.safetensors", of, counts, device=f"d{n}", first=MORNING + n)
    script = MEMORY.format(paths=[str(root)], folder=str(tmp_path / "many"), out=str(tmp_path / "all"))
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert len(Gathered(tmp_path / "all").head.records) == 2400
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(run.stdout) * unit < 33e6 and resource.RUSAGE_SELF == 0
