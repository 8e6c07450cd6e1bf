"""The same merge on a Ray cluster: workers add up a part of the files each, the parts are added up here.

Paths must mean the same files on every worker, as for `serve video --ray`. Sums of sums are the same sums.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serve.batch.cluster import connect
from serve.errors import InputError
from serve.fleet.merge import Grouping, Plan, plan_merge, write_merged
from serve.media.partial import temporary_for

FILES = 200
"""Files of one step: some seconds of work."""
_RETRIES = 5


def merge_part(paths: Sequence[Path], out: Path, grouping: Grouping) -> str:
    """Merge some files into one; why not, in one sentence, or empty."""
    try:
        write_merged(plan_merge(paths, grouping), out)
    except InputError as error:
        return error.message
    return ""


def merge_on_cluster(
    paths: Sequence[Path],
    out: Path,
    grouping: Grouping,
    address: str,
    *,
    files: int = FILES,
    overwrite: bool = True,
) -> Plan:
    """Merge on the Ray cluster at `address`; see `serve.batch.cluster.run_on_cluster`.

    Raises:
        InputError: what `plan_merge` refuses, Ray is not installed, or no cluster answers.
    """
    paths = [path.resolve() for path in paths]
    plan = plan_merge(paths, grouping)  # refuses, before any work, what one worker alone would not see
    grouping = replace(grouping, slot=plan.head.slot)
    ray = connect(address)
    step: Any = ray.remote(merge_part).options(max_retries=_RETRIES)
    try:
        with temporary_for(out.resolve(), folder=True) as folder:
            chunks = [paths[start : start + files] for start in range(0, len(paths), files)]
            parts = [folder / f"{n:06d}.safetensors" for n in range(len(chunks))]
            waiting = [step.remote(chunk, part, grouping) for chunk, part in zip(chunks, parts, strict=True)]
            for failure in filter(None, ray.get(waiting)):
                raise InputError(failure)
            write_merged(plan_merge(parts, grouping), out, overwrite=overwrite)
    finally:
        ray.shutdown()
    return plan
