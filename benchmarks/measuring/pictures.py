"""Pictures that cost a decoder what those of ImageNet do: as large, as many bytes, as rough.

None of ImageNet's may be redistributed. Instead, these are made from random parts of the two photographs that scikit-learn ships
(`china.jpg`, `flower.jpg`: 640x427 pixels, CC BY), mirrored, scaled, and blended with what shares statistics of natural images:
overlapping discs with radii from a power law ("dead leaves"), and noise with a spectrum of 1/f. Sizes are drawn as is common in
ImageNet: half of the pictures have 500x375 pixels, some are small, one in thirty is larger than 1000. For each picture, the
quality is chosen that meets the bytes per pixel drawn for it, so that a file has about 110 kB, as ImageNet's have on average
(147.9 GB of 1,281,167 images: 115 kB). A third have chroma in full resolution.
"""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

SIZES = {
    (500, 375): 0.43,
    (375, 500): 0.12,
    (500, 333): 0.12,
    (333, 500): 0.05,
    (500, 400): 0.05,
    (400, 500): 0.02,
    (500, 500): 0.03,
    (400, 300): 0.05,
    (320, 240): 0.03,
    (250, 188): 0.02,
    (160, 160): 0.01,
    (640, 480): 0.03,
    (800, 600): 0.01,
    (1024, 768): 0.02,
    (1600, 1200): 0.01,
}
BYTES_PER_PIXEL = (0.58, 0.3)  # median, and standard deviation of the logarithm
QUALITIES = (50, 65, 75, 80, 85, 88, 90, 92, 94, 95, 96, 97, 98)
SUBSAMPLINGS = {"4:2:0": 0.62, "4:4:4": 0.33, "4:2:2": 0.03, "grey": 0.02}
CANVAS = 2048


def write_pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write `count` JPEG files in ten folders, and return their paths."""
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    leaves, noise = dead_leaves(seed), pink_noise(seed)

    def write(number: int) -> Path:
        path = folder / f"class{number % 10}" / f"{number}.JPEG"
        path.write_bytes(encoded(number, seed, sources, leaves, noise))
        return path

    for label in range(10):
        (folder / f"class{label}").mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(write, range(count)))


def encoded(number: int, seed: int, sources: list[Image.Image], leaves: Image.Image, noise: np.ndarray) -> bytes:
    """One picture."""
    rng = np.random.default_rng([seed, number])
    size = list(SIZES)[rng.choice(len(SIZES), p=np.array([*SIZES.values()]) / sum(SIZES.values()))]
    picture = blended(rng, size, sources, leaves, noise)
    subsampling = str(rng.choice([*SUBSAMPLINGS], p=[*SUBSAMPLINGS.values()]))
    wanted = size[0] * size[1] * BYTES_PER_PIXEL[0] * np.exp(BYTES_PER_PIXEL[1] * rng.standard_normal())
    low, high = 0, len(QUALITIES) - 1
    while low < high:  # the best quality that takes no more bytes
        middle = (low + high + 1) // 2
        if len(jpeg(picture, QUALITIES[middle], subsampling)) <= wanted:
            low = middle
        else:
            high = middle - 1
    return jpeg(picture, QUALITIES[low], subsampling)


def jpeg(picture: Image.Image, quality: int, subsampling: str) -> bytes:
    """Encode a picture."""
    stream = io.BytesIO()
    if subsampling == "grey":
        picture.convert("L").save(stream, "JPEG", quality=quality)
    else:
        picture.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def blended(
    rng: np.random.Generator, size: tuple[int, int], sources: list[Image.Image], leaves: Image.Image, noise: np.ndarray
) -> Image.Image:
    """A part of a photograph, some leaves, some noise."""
    photo = part(rng, sources[rng.integers(len(sources))], size, float(rng.uniform(0.35, 1)))
    other = part(rng, leaves, size, float(rng.uniform(0.2, 0.6)))
    picture = Image.blend(photo, other, float(rng.uniform(0, 0.6)))
    top, left = rng.integers(0, CANVAS - np.array(size[::-1]) + 1)
    values = np.asarray(picture, dtype=np.float32) + rng.uniform(0, 14) * noise[top : top + size[1], left : left + size[0], None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def part(rng: np.random.Generator, source: Image.Image, size: tuple[int, int], share: float) -> Image.Image:
    """A random rectangle of an image, mirrored by chance, scaled to a size."""
    scale = share * min(source.width / size[0], source.height / size[1])
    width, height = scale * size[0], scale * size[1]
    left, top = rng.uniform(0, source.width - width), rng.uniform(0, source.height - height)
    found = source.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    return found.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else found


def dead_leaves(seed: int, count: int = 6000) -> Image.Image:
    """Overlapping discs, their number falling with the cube of the radius."""
    rng = np.random.default_rng([seed, 1 << 40])
    canvas = Image.new("RGB", (CANVAS, CANVAS), (128, 128, 128))
    draw = ImageDraw.Draw(canvas)
    radii = 4 / np.sqrt(1 - rng.random(count) * (1 - (4 / 400) ** 2))
    for radius, (x, y), colour in zip(radii, rng.uniform(0, CANVAS, (count, 2)), rng.integers(0, 256, (count, 3)), strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour.tolist()))
    return canvas


def pink_noise(seed: int) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1 whose amplitude falls with the frequency, [CANVAS, CANVAS]."""
    rng = np.random.default_rng([seed, 1 << 41])
    y, x = np.fft.fftfreq(CANVAS)[:, None], np.fft.rfftfreq(CANVAS)[None]
    frequency = np.maximum(np.hypot(y, x), 1 / CANVAS)
    values = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((CANVAS, CANVAS))) / frequency)
    return ((values - values.mean()) / values.std()).astype(np.float32)
