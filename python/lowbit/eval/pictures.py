# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Small pictures of inputs that look like images, for the worst samples of a page."""
from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping

import numpy as np

LARGEST = 96  # pixels of a side
SMALLEST = 8


def thumbnail(inputs: Mapping[str, np.ndarray], row: int, count: int) -> np.ndarray | None:
    """u8 [height, width, 1 or 3] of sample `row` of `count`, if one input alone looks like an image: [C, H, W] or [H, W, C], C 1 or 3.

    Integers of 8 bits and floats within 0 … 1 are shown as they are; other values go from the picture's
    smallest to its largest. Every n-th pixel is taken where a side has more than 96.
    """
    found = [array for array in inputs.values() if array.ndim == 4 and len(array) == count]
    if len(found) != 1 or found[0].dtype.kind not in "fu":
        return None
    image = found[0][row]
    if image.shape[0] in (1, 3) and min(image.shape[1:]) >= SMALLEST:
        image = image.transpose(1, 2, 0)
    if image.shape[2] not in (1, 3) or min(image.shape[:2]) < SMALLEST:
        return None
    step = -(-max(image.shape[:2]) // LARGEST)
    image = image[::step, ::step]
    if image.dtype == np.uint8:
        return image.copy()
    values = np.nan_to_num(image.astype(np.float64))
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        values = (values - low) / (high - low if high > low else 1.0)
    return np.round(values * 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    """A PNG file of u8 [height, width, 1 or 3]."""
    height, width, channels = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, width * channels)], 1)  # filter 0 before each

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")


def data_uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()
