"""Reads Prometheus' text format by its grammar (version 0.0.4), and refuses what it does not allow."""

import re

Labels = tuple[tuple[str, str], ...]

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)", re.ASCII)
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)', re.ASCII)
_KINDS = ("gauge", "counter", "histogram")


def metrics_of(text: str) -> dict[tuple[str, Labels], float]:
    """Values by name and sorted labels. Raises AssertionError where a scraper would complain."""
    found: dict[tuple[str, Labels], float] = {}
    declared: dict[str, str] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            _, word, name, rest = line.split(" ", 3)
            assert word in ("HELP", "TYPE") and rest
            if word == "TYPE":
                assert rest in _KINDS and name not in declared
                declared[name] = rest
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        base = re.sub(r"_(bucket|sum|count)$", "", match["name"])
        histogram = declared.get(base) == "histogram"
        assert histogram or match["name"] in declared, line
        pairs = _LABEL.findall(match["labels"] or "")
        assert "".join(f'{key}="{value}",' for key, value in pairs).rstrip(",") == (match["labels"] or "")
        labels = tuple(sorted((key, _plain(value)) for key, value in pairs))
        assert (match["name"], labels) not in found, line
        found[match["name"], labels] = float(match["value"])
    return found


def of_class(found: dict[tuple[str, Labels], float]) -> dict[tuple[str, str], float]:
    """Those with no label but `class`, by name and class; empty without one."""
    return {(name, dict(labels).get("class", "")): value for (name, labels), value in found.items()}


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), value)
