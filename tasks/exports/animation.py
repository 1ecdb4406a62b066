"""Pictures one after the other as one animated file: GIF, WebP or APNG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

_LAST = 4
"""How many times as long the last picture stays."""

_PALETTE = 254
"""Colours taken from the first picture; with white and black they are as many as a GIF has."""


def save(path: Path, frames: Iterable[np.ndarray], milliseconds: int) -> None:
    """Write pictures, uint8 (rows, columns, RGB), as an animation that begins again; its form is the path's ending."""
    from PIL import Image

    form = path.suffix.removeprefix(".")
    pictures = list(frames)
    images = _with_one_palette(pictures) if form == "gif" else [Image.fromarray(p) for p in pictures]
    durations = [milliseconds] * (len(images) - 1) + [milliseconds * _LAST]
    more: dict[str, Any] = {
        "gif": {"optimize": False, "disposal": 1}, "webp": {"lossless": True, "method": 4}, "apng": {},
    }[form]  # fmt: skip
    kind = {"gif": "GIF", "webp": "WEBP", "apng": "PNG"}[form]
    images[0].save(path, kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **more)


def _with_one_palette(pictures: list[np.ndarray]) -> list[Any]:
    """Pictures in the same 256 colours, each pixel in the nearest one.

    Pillow finds a palette a picture, and looks colours up roughly: what is white would flicker.
    """
    from PIL import Image
    from scipy.spatial import KDTree

    first = Image.fromarray(pictures[0]).quantize(_PALETTE, dither=Image.Dither.NONE)
    found = np.array(first.getpalette(), dtype="uint8").reshape(-1, 3)[:_PALETTE]
    palette = np.concatenate([found, np.array([[255] * 3, [0] * 3], dtype="uint8")])
    tree = KDTree(palette.astype("float64"))
    images = []
    for picture in pictures:
        numbers = picture.astype("uint32") @ np.array([1 << 16, 1 << 8, 1], dtype="uint32")
        seen, inverse = np.unique(numbers, return_inverse=True)
        colours = np.stack([seen >> 16, (seen >> 8) & 255, seen & 255], axis=-1)
        nearest = tree.query(colours.astype("float64"))[1].astype("uint8")
        image = Image.fromarray(nearest[inverse].reshape(numbers.shape), "P")
        image.putpalette(palette.tobytes())
        images.append(image)
    return images
