"""What the choice among profiles costs: a graph with eight corrections beside a graph with one.

    python tests/bench/gathering/bench_profiles.py     # about a minute on two cores

MiT-B0 with SegFormer's decoder at 512x1024 and 19 classes, of random weights; statistics and logits are those
of `bench_export.py`. Timed are the nodes behind the network, whose inputs `profile` and `tau` are fed, set
against the whole uncorrected graph within the same run; candidates take turns, and the fastest of their
rounds count. Eight corrections are eight times the same statistics, so their tables are as many and as large
as of eight places, and the last one is run. Exit code 1 if a number misses its target.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.utils

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_export import (
    SIZE,
    TAU,
    Table,
    fastest,
    fitted_statistics,
    mit_b0,
    session,
    smooth_logits,
    table_bytes,
)

from export.fold.fold import Strength, fold
from export.fold.nodes import PREFIX
from export.sources.network import logits_graph
from serve.card import MOST_PROFILES, Card

CLASSES = 19
ROUNDS = 25
COST = 1.005
"""Of the whole graph: what is measured of one correction differs by as much from run to run."""
GROWTH = 0.02
"""Of the file, for each correction, as `bench_export.py` has it for one."""


def behind_network(model: onnx.ModelProto) -> onnx.ModelProto:
    """The nodes from logits to scores, with all inputs that the graph has beside the picture."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    scores = PREFIX + "labels_channels_last"
    whole.graph.output.append(onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None))
    given = [value.name for value in model.graph.input if value.name != "image"]
    return onnx.utils.Extractor(whole).extract_model(["logits", *given], [scores])


def main() -> int:
    segmenter, statistics = mit_b0(CLASSES), fitted_statistics(CLASSES)
    names = tuple(f"class{i}" for i in range(CLASSES))
    sizes = segmenter.stride, segmenter.output_stride
    card = Card(names, ((0, 0, 0),) * CLASSES, 255, segmenter.mean, segmenter.std, *sizes, SIZE)
    bare = logits_graph(segmenter)
    plain = fold(bare, card, None)
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    logits = smooth_logits(CLASSES, SIZE, segmenter.output_stride)
    table = Table()
    for runtime, words in ((False, "fixed tau"), (True, "run-time tau")):
        one = Strength(statistics, "fitted", TAU, runtime)
        others = tuple(replace(one, profile=f"place {n}") for n in range(1, MOST_PROFILES))
        models = [fold(bare, card, each) for each in (one, replace(one, profile="place 0", others=others))]
        feeds = [{"logits": logits}, {"logits": logits, "profile": np.array(MOST_PROFILES - 1, np.int32)}]
        if runtime:
            feeds = [{**feed, "tau": np.array(TAU, np.float32)} for feed in feeds]
        whole, parts = session(plain), [session(behind_network(model)) for model in models]
        plain_s, one_s, several_s = fastest(
            [
                lambda s=whole: s.run(None, {"image": image}),  # type: ignore[misc]
                *(lambda s=s, f=f: s.run(None, f) for s, f in zip(parts, feeds, strict=True)),  # type: ignore[misc]
            ],
            ROUNDS,
        )
        table.at_most(
            f"{MOST_PROFILES} profiles / one, {words}",
            1 + (several_s - one_s) / plain_s,
            COST,
            f"{1000 * one_s:.1f} and {1000 * several_s:.1f} of {1000 * plain_s:.0f} ms",
        )
        growth = (models[1].ByteSize() - models[0].ByteSize()) / plain.ByteSize() / (MOST_PROFILES - 1)
        table.at_most(f"growth of the file for each, {words}", growth, GROWTH)
        size = table_bytes(models[0], CLASSES) / 1e6
        table.at_most(f"memory of each table, MB, {words}", size, None)
    return int(table.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
