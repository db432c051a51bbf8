"""What `decode: fast` does to pixels, and to a classifier."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from spikedistill.data.formats.decoding.encoded import EncodedImage
from spikedistill.data.formats.images import ImageFiles
from spikedistill.data.loading.augment import BOX_WORDS, ResizedCrop, resized_crop_boxes
from spikedistill.data.loading.rng import SampleRng, Stream
from spikedistill.data.store import open_store

INPUT, SQUARE = 224, 256


def compare_crops(store: Path, number: int) -> dict[str, float | None]:
    """The effect of `fast` on some crops, and on the middle squares."""
    files = open_store(store).samples
    assert isinstance(files, ImageFiles)
    words = SampleRng(0, 0, np.arange(number)).words(Stream.RESIZED_CROP, BOX_WORDS)
    found: dict[str, list[float]] = {"crops": [], "squares": []}
    for row in range(number):
        both = []
        for fast in (False, True):
            image = files.encoded(row, files.content(row), fast=fast)
            box = resized_crop_boxes(ResizedCrop(), words[row : row + 1], image.height, image.width)[0]
            both.append([image.resized_box(box.tolist(), INPUT).astype(np.int64), image.middle_square(SQUARE).astype(np.int64)])
        for name, exact, fast_one in zip(found, *both, strict=True):
            if (exact != fast_one).any():
                found[name].append(10 * np.log10(255**2 / ((exact - fast_one) ** 2).mean()))
    return {
        key: value
        for name, psnr in found.items()
        for key, value in (
            (f"{name}_changed_%", 100 * len(psnr) / number),
            (f"{name}_psnr_median", float(np.median(psnr)) if psnr else None),
            (f"{name}_psnr_min", float(min(psnr)) if psnr else None),
        )
    }


def compare_accuracy() -> dict[str, float]:
    """The effect of `fast` on a classifier of digits: pictures of 400 pixels, decoded to an eighth, for inputs of 32."""
    digits = load_digits()
    noise = np.random.default_rng(0).normal(0, 8, (400, 400))
    inputs: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for digit in digits.images:
        picture = Image.fromarray((digit * 15).astype(np.uint8)).resize((400, 400), Image.Resampling.BICUBIC)
        values = np.asarray(picture) + np.roll(noise, int(digit.sum()), axis=1)
        stream = io.BytesIO()
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        for fast, found in inputs.items():
            found.append(EncodedImage("digit", stream.getvalue(), fast=fast).middle_square(32)[0].ravel() / 255)
    order = np.random.default_rng(1).permutation(len(digits.target))
    train, test = order[:1200], order[1200:]
    shares = {}
    for trained in (False, True):
        model = LogisticRegression(max_iter=300).fit(np.array(inputs[trained])[train], digits.target[train])
        for tested in (False, True):
            names = ["fast" if fast else "exact" for fast in (trained, tested)]
            correct = model.predict(np.array(inputs[tested])[test]) == digits.target[test]
            shares[f"trained {names[0]}, tested {names[1]}, %"] = round(100 * float(correct.mean()), 2)
    return shares
