"""How well a chunked shuffle mixes data that is stored class by class, and what that does to a network.

    python benchmarks/chunked_shuffle.py --out benchmarks/results/chunked_shuffle.json

mixing    ImageNet's 1,000 classes of 1,281 images: classes in a batch of 256, and in 100 batches in a row, on average over an
          epoch. `blocks_per_class` is how many blocks a window has for each class.
accuracy  on the test split, in percent, mean and standard deviation over seeds, of a small ANN with batch normalisation that is
          trained on 2,000 MNIST digits sorted by class. There, a window has as many blocks for each of the 10 classes as in the
          row of `mixing` with the same `blocks_per_class`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from measuring.machine import describe
from spikedistill.data.datasets import mnist_5k
from spikedistill.data.loading.loader import Loader
from spikedistill.data.loading.rng import epoch_permutation
from spikedistill.data.loading.streaming.order import ChunkedShuffle, chunked_order
from spikedistill.data.store import SampleStore, open_store

CLASSES, PER_CLASS, BATCH, IN_A_ROW = 1000, 1281, 256, 100
MIXED = (None, (8, 2048), (8, 8192), (8, 32_768), (8, 131_072), (1, 8192), (64, 65_536))
TRAINED = (None, (8, 32), (8, 80), (8, 320), (8, 1280))
SMALL_BATCH, LR = 50, 0.01


def name_of(shuffle: tuple[int, int] | None) -> str:
    """The name of a row."""
    return "full" if shuffle is None else f"block {shuffle[0]}, window {shuffle[1]}"


def mixing(shuffle: tuple[int, int] | None) -> dict[str, float]:
    """Classes in a batch, and in batches in a row."""
    number = CLASSES * PER_CLASS
    found = {}
    if shuffle is None:
        order = epoch_permutation(0, 0, number)
    else:
        block, window = shuffle
        order = chunked_order(ChunkedShuffle(block=block, window=window), 0, 0, number, BATCH)
        found["blocks_per_class"] = round(window / block / CLASSES, 2)
    labels = order[: number // BATCH * BATCH] // PER_CLASS
    for name, size in (("in_a_batch", BATCH), (f"in_{IN_A_ROW}_batches", IN_A_ROW * BATCH)):
        parts = np.sort(labels[: len(labels) // size * size].reshape(-1, size), axis=1)
        found[name] = round(float((1 + (np.diff(parts, axis=1) != 0).sum(1)).mean()), 1)
    return found


def network() -> nn.Module:
    """A few layers with batch normalisation, whose statistics suffer first from poor mixing."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 10))


def accuracy(data: SampleStore, shuffle: tuple[int, int] | None, seed: int, epochs: int) -> float:
    """Train and test."""
    torch.manual_seed(seed)
    model = network()
    chunked = None if shuffle is None else ChunkedShuffle(block=shuffle[0], window=shuffle[1])
    loader = Loader(data, "train", batch_size=SMALL_BATCH, seed=seed, shuffle=True, chunked=chunked)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * loader.steps_per_epoch)
    for epoch in range(epochs):
        for inputs, labels in loader.epoch(epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        tested = [(model(inputs).argmax(1) == labels).float() for inputs, labels in Loader(data, "test", batch_size=500).epoch(0)]
    return 100 * float(torch.cat(tested).mean())


def sorted_by_class(data: SampleStore) -> SampleStore:
    """The same dataset with its rows in the order of their classes."""
    rows = np.argsort(data.labels, kind="stable")
    place = np.argsort(rows)
    splits = {name: np.sort(place[members]) for name, members in data.splits.items()}
    samples = np.asarray(data.samples)[rows]
    return SampleStore("images", samples, data.labels[rows], splits, data.class_names, data.mean, data.std)


def accuracies(seeds: int, epochs: int) -> dict[str, Any]:
    """Of every shuffle, over seeds."""
    with tempfile.TemporaryDirectory() as folder:
        mnist_5k.prepare(mnist_5k.Params(), raw=None, out=Path(folder), work=Path(folder), num_workers=1)
        data = sorted_by_class(open_store(Path(folder)))
    found = {}
    for shuffle in TRAINED:
        values = [accuracy(data, shuffle, seed, epochs) for seed in range(seeds)]
        spread = {"mean": round(statistics.fmean(values), 2), "std": round(statistics.stdev(values), 2) if seeds > 1 else None}
        blocks = {} if shuffle is None else {"blocks_per_class": round(shuffle[1] / shuffle[0] / 10, 2)}
        found[name_of(shuffle)] = {**blocks, **spread}
        print(f"{name_of(shuffle):24}", found[name_of(shuffle)], flush=True)
    return found


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    mixed = {name_of(shuffle): mixing(shuffle) for shuffle in MIXED}
    print(json.dumps(mixed, indent=1), flush=True)
    figures = {"mixing": mixed, "accuracy": accuracies(options.seeds, options.epochs)}
    command = " ".join(["python", Path(sys.argv[0]).as_posix(), *sys.argv[1:]])
    text = json.dumps({"command": command, **describe("cpu", 1), **figures}, indent=1) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
