"""How much memory this process can still take."""

from collections.abc import Iterator
from pathlib import Path


def available() -> int | None:
    """Bytes that this process can still take: of the machine, its container, and its own limit.

    None where the system does not say (it is not Linux).
    """
    bounds = list(_bounds(Path("/")))
    return max(min(bounds), 0) if bounds else None


def _bounds(root: Path) -> Iterator[int]:
    facts = _table(root / "proc/meminfo")
    if "MemAvailable" in facts:
        yield 1024 * facts["MemAvailable"]
    yield from _left_in_groups(root)
    if (limit := _address_space_limit()) is not None:
        yield limit - 1024 * _table(root / "proc/self/status").get("VmSize", 0)


def _left_in_groups(root: Path) -> Iterator[int]:
    """What each control group (a container is one) that this process is in has left.

    Files in the cache count as used there, but give way.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            ground, limit, used, cached = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            ground, limit, used = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cached = "total_inactive_file"
        else:
            continue
        top = root / ground
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(top):
                break
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                yield most - now + _table(folder / "memory.stat").get(cached, 0)


def _address_space_limit() -> int | None:
    """Of `ulimit -v`."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _number(path: Path) -> int | None:
    """The number in a file; None if there is no such file, or it says "max"."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[str, int]:
    """Lines such as `MemAvailable:  123 kB` or `inactive_file 123`, as far as they hold a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.replace(":", " ").split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}
