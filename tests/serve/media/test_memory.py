"""What memory this process can still take."""

from pathlib import Path

from serve.media.memory import _bounds, available


def _write(root: Path, files: dict[str, str]) -> list[int]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return sorted(_bounds(root))


MEMINFO = {
    "proc/meminfo": "MemTotal:  9000 kB\nMemFree: 10 kB\nMemAvailable:    8000 kB\nHugePages_Total:   0\n"
}


def test_memory_of_the_machine(tmp_path: Path) -> None:
    assert _write(tmp_path, MEMINFO) == [8000 * 1024]


def test_memory_of_a_container_and_of_those_around_it(tmp_path: Path) -> None:
    """The group that a process is in, and each above it, may have a limit; cached files give way."""
    groups = {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/inner/memory.max": "5000000\n",
        "sys/fs/cgroup/outer/inner/memory.current": "3000000\n",
        "sys/fs/cgroup/outer/inner/memory.stat": "anon 1\ninactive_file 500000\nactive_file 7\n",
        "sys/fs/cgroup/outer/memory.max": "1500000\n",
        "sys/fs/cgroup/outer/memory.current": "1000000\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": "9\n",
    }
    assert _write(tmp_path, MEMINFO | groups) == [500_000, 2_500_000, 8000 * 1024]


def test_memory_of_a_container_that_sees_its_own_group_only(tmp_path: Path) -> None:
    groups = {
        "proc/self/cgroup": "12:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc\n1:name=systemd:/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "700000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "600000",
        "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 50000\n",
    }
    assert _write(tmp_path, MEMINFO | groups) == [150_000, 8000 * 1024]


def test_memory_where_nobody_says(tmp_path: Path) -> None:
    assert _write(tmp_path, {}) == []
    found = available()
    assert found is None or found > 0
