"""What online balancing costs in a training step (the paper: 1.22 times the time, 1.29 times the memory).

One step of self-training (source, teacher, mixed; AdamW) with and without online balancing, in turns, on
the same network and pictures. On a CPU: MiT-B0 with DAFormer's decoder, batch 1 + 1, 512x512, float32. On a
GPU: MiT-B5, batch 2 + 2, bfloat16.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch

from adapt.augmentation.pairs import Pair
from adapt.balance.online import Balance
from adapt.config.settings import Config, Encoder, Method, Model
from adapt.model.build import build
from adapt.model.device import best_device, peak_memory
from adapt.model.segmenter import StudentNetwork
from adapt.run.run import new_statistics
from adapt.training.step import Step, terms_of
from adapt.training.teacher import new_teacher

CLASSES, SIDE = 19, 512
TIME = MEMORY = 1.05
ON_GPU = 1.03
MIT_B0 = {"model_type": "segformer"}
MIT_B5 = {"model_type": "segformer", "hidden_sizes": [64, 128, 320, 512], "depths": [3, 6, 40, 3]}
METHODS = {"off": Method(balance="off"), "online": Method(balance="online")}


class Bench:
    """A network in training."""

    def __init__(self, device: torch.device) -> None:
        torch.manual_seed(0)
        gpu = device.type != "cpu"
        self.device, self.batch = device, 2 if gpu else 1
        encoder = Encoder(config=MIT_B5 if gpu else MIT_B0)
        segmenter = build(Model(encoder=encoder, decoder="daformer"), CLASSES).segmenter
        self.student = StudentNetwork(segmenter).to(device).train()
        self.teacher = new_teacher(segmenter, (SIDE, SIDE))
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=6e-5)
        self.balance = Balance(
            new_statistics(Config(), CLASSES).to(device), lambda tensor: tensor, segmenter.output_stride
        )
        self.pair = Pair(*(tensor.to(device) for tensor in pair(self.batch)))
        self.autocast = torch.autocast(device.type, torch.bfloat16) if gpu else nullcontext()

    def step(self, balance: str) -> float:
        """Seconds of one step."""
        method = METHODS[balance]
        started = self._now()
        self.optimizer.zero_grad()
        step = Step(
            network=self.student,
            segmenter=self.student.segmenter,
            pair=self.pair,
            method=method,
            backward=lambda loss: loss.backward(),  # type: ignore[no-untyped-call]
            generator=torch.Generator().manual_seed(0),
            balance=self.balance if balance == "online" else None,
            teacher=self.teacher,
        )
        with self.autocast:
            losses = [loss for term in terms_of(method) for loss in term(step).values()]
        torch.stack(losses).tolist()  # as the trainer does, before the weights are touched
        self.optimizer.step()
        return self._now() - started

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def pair(batch: int) -> Pair:
    """Noise, labelled in blocks; all classes occur."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, batch, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (batch, 16, 16), generator=generator, dtype=torch.uint8)
    labels = labels.repeat_interleave(SIDE // 16, 1).repeat_interleave(SIDE // 16, 2)
    return Pair(images[0], labels, images[1], torch.zeros(batch, SIDE, SIDE, dtype=torch.bool))


def memory(balance: str) -> float:
    """Peak memory of a few steps in a process of their own, GiB."""
    child = subprocess.run(
        [sys.executable, __file__, "--memory", balance], check=True, capture_output=True, text=True
    )
    return float(child.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5, help="Timed steps of each kind.")
    parser.add_argument("--memory", choices=METHODS, help="Print the peak memory of this kind of step.")
    options = parser.parse_args()
    bench = Bench(best_device())
    if options.memory:
        for _ in range(3):
            bench.step(options.memory)
        print(peak_memory() / 2**30)
        return
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for number in range(options.steps + 1):
        for name in METHODS:
            took = bench.step(name)
            if number:  # the first ones warm up
                seconds[name].append(took)
    # Neighbours in time are compared, so that a busy moment of the machine cancels out.
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True))
    wanted = TIME if bench.device.type == "cpu" else ON_GPU
    images = 2 * bench.batch / statistics.median(seconds["online"])
    print(f"step without balancing {statistics.median(seconds['off']):.3f} s on {bench.device.type}")
    print(f"time with online balancing over without: {ratio:.3f} (wanted {wanted})  {images:.2f} images/s")
    off, online = memory("off"), memory("online")
    share = online / off
    print(
        f"peak memory: {off:.2f} GiB, with online balancing {online:.2f} GiB: {share:.3f} (wanted {wanted})"
    )
    sys.exit(ratio > wanted or share > wanted)


if __name__ == "__main__":
    main()
