"""The Dockerfile as instructions by stage, for tests that can't build it."""

import shlex
from pathlib import Path
from typing import NamedTuple

PATH = Path(__file__).parents[3] / "Dockerfile"


class Instruction(NamedTuple):
    word: str
    """FROM, RUN, COPY ... in capitals."""
    text: str


class Stage(NamedTuple):
    name: str
    base: str
    """An image, or the name of an earlier stage."""
    instructions: list[Instruction]


def stages_of(text: str) -> dict[str, Stage]:
    """Stages by name, in order; comments left out, lines that end in a backslash joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name.strip()] = Stage(name.strip(), base.strip(), [])
        else:
            assert current is not None, f"{line!r} stands before the first FROM"
            current.instructions.append(Instruction(word.upper(), " ".join(rest.split())))
    return stages


def lineage(stages: dict[str, Stage], name: str) -> list[Instruction]:
    """All instructions that make the image of a stage, its bases' first."""
    stage = stages[name]
    before = lineage(stages, stage.base) if stage.base in stages else []
    return before + stage.instructions


def commands(instructions: list[Instruction], word: str) -> list[list[str]]:
    """The arguments of every instruction of that word, as a shell would split them."""
    return [shlex.split(i.text) for i in instructions if i.word == word]


STAGES = stages_of(PATH.read_text())
