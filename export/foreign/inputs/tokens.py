"""The task of a OneFormer as it takes it: the ids of "the task is semantic", by the tokenizer beside it.

As transformers' OneFormerProcessor has it: ids with the tokens of begin and end, then zeros (it multiplies
the ids by their mask, so what fills up is 0 and not the tokenizer's own padding). Nothing is fetched.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from adapt.errors import InputError

TASK = "the task is semantic"
LENGTH = 77
"""Ids, where nothing says how many: OneFormer's own default."""
_HUB = "onnx"
_LENGTHS = (("processor_config.json", "task_seq_length"), ("config.json", "task_seq_len"))


class Ids(NamedTuple):
    """Ids, and the file that they are by."""

    ids: list[int]
    named_by: str


def task_ids(path: Path, length: int | None) -> Ids | None:
    """The ids; None where no tokenizer lies beside the model or one folder up from onnx/model.onnx.

    Args:
        path: of the model.
        length: L that the graph takes; None where it does not say.

    Raises:
        InputError: a tokenizer that can't be read.
    """
    folders = [path.parent, *([path.parent.parent] if path.parent.name == _HUB else [])]
    for folder in folders:
        whole, parts = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
        if whole.is_file():
            return _encoded(whole, folders, length)
        if all(part.is_file() for part in parts):
            return _encoded(parts[0], folders, length)
    return None


def _encoded(file: Path, folders: list[Path], length: int | None) -> Ids:
    length = length or _said(folders) or LENGTH
    try:
        found = _tokenizer(file)(TASK, truncation=True, max_length=length)["input_ids"]
    except Exception as error:  # the tokenizers' own exceptions share no base class
        raise InputError(
            f"{file} can't be understood as a tokenizer ({' '.join(str(error).split())[:100]}); mend it, or "
            "give the ids with --input task_inputs=FILE.npy."
        ) from error
    return Ids([*map(int, found), *[0] * (length - len(found))], f"{file.name} beside it")


def _tokenizer(file: Path) -> Any:
    """CLIP's, which every OneFormer has, of its parts; whichever a whole file holds."""
    from transformers import CLIPTokenizer, PreTrainedTokenizerFast

    if file.name == "tokenizer.json":
        return PreTrainedTokenizerFast(tokenizer_file=str(file))
    return CLIPTokenizer.from_pretrained(file.parent, local_files_only=True)


def _said(folders: list[Path]) -> int | None:
    """L by what lies beside the tokenizer; None where nothing says it."""
    for name, key in _LENGTHS:
        for folder in folders:
            try:
                value = json.loads((folder / name).read_text(encoding="utf-8")).get(key)
            except (OSError, ValueError, AttributeError):
                continue  # may be anybody's file
            if type(value) is int and value > 0:
                return value
    return None
