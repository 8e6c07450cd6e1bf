"""What the choice among profiles costs: a graph with eight corrections beside a graph with one.

    python tests/bench/gathering/bench_profiles.py     # about half a minute on one core

19 classes at the stride of MiT-B0 for 512x1024; statistics and logits are those of `bench_export.py`. Timed
are the nodes from logits to scores, whose inputs `profile` and `tau` are fed, on one thread and by its CPU
time, which other work on the machine moves little; the two take turns, and the fastest of their rounds count.
Eight corrections are eight times the same statistics, so their tables are as many and as large as of eight
places, and the last one is run. Exit code 1 if a number misses its target.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_export import SIZE, TAU, Table, fitted_statistics, smooth_logits, table_bytes
from onnx_segmenters import OUTPUT_STRIDE, card, plain_segmenter

from export.fold.fold import Strength, fold
from export.fold.nodes import PREFIX
from serve.card import MOST_PROFILES

CLASSES = 19
ROUNDS = 25
COST = 1.05
"""Of the correction, which is 3 % of MiT-B0's graph."""


def behind_network(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes from logits to scores, with all inputs that the graph has beside the picture."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    scores = PREFIX + "labels_channels_last"
    whole.graph.output.append(onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None))
    given = [value.name for value in model.graph.input if value.name != "image"]
    return onnx.utils.Extractor(whole).extract_model(["y", *given], [scores])


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def as_profile(one: Strength, name: str, others: tuple[Strength, ...] = ()) -> Strength:
    """The same under a name; what was made of its statistics is not made again."""
    other = replace(one, profile=name, others=others)
    vars(other).update({made: getattr(one, made) for made in ("table", "drawn")})
    return other


def main() -> int:
    statistics, table = fitted_statistics(CLASSES), Table()
    logits = smooth_logits(CLASSES, SIZE, OUTPUT_STRIDE)
    for runtime, words in ((False, "fixed tau"), (True, "run-time tau")):
        one = Strength(statistics, "fitted", TAU, runtime)
        others = tuple(as_profile(one, f"place {n}") for n in range(1, MOST_PROFILES))
        models = [
            fold(plain_segmenter(CLASSES), card(CLASSES, SIZE), each)
            for each in (one, as_profile(one, "place 0", others))
        ]
        feeds = [{"y": logits}, {"y": logits, "profile": np.array(MOST_PROFILES - 1, np.int32)}]
        if runtime:
            feeds = [{**feed, "tau": np.array(TAU, np.float32)} for feed in feeds]
        sessions = [session(behind_network(model)) for model in models]
        spent: list[list[float]] = [[], []]
        for _ in range(ROUNDS + 1):
            for seconds, opened, feed in zip(spent, sessions, feeds, strict=True):
                start = time.thread_time()
                opened.run(None, feed)
                seconds.append(time.thread_time() - start)
        one_s, several_s = (min(seconds[1:]) for seconds in spent)
        table.at_most(
            f"{MOST_PROFILES} profiles / one, {words}",
            several_s / one_s,
            COST,
            f"{1000 * several_s:.1f} and {1000 * one_s:.1f} ms",
        )
        growth = (models[1].ByteSize() - models[0].ByteSize()) / (MOST_PROFILES - 1)
        table.at_most(f"growth of the file for each, MB, {words}", growth / 1e6, None)
        table.at_most(f"memory of each table, MB, {words}", table_bytes(models[0], CLASSES) / 1e6, None)
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
