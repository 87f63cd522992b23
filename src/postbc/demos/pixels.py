"""Camera images of a data set: in memory, or unpacked into a file that the system maps as it is read."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from torch import Tensor

from postbc.errors import DataError
from postbc.storage.atomic import atomic_file

SCRATCH = Path(".work/images")
PART = 256  # rows decoded at once


@dataclass(frozen=True)
class Pixels:
    """``images[rows[i]]`` is what was seen at frame i; a selection of frames shares the images.

    Those that are ``mapped`` lie on the disk and stay there: gathering some reads those alone.
    """

    images: UInt8[Tensor, "M C h w"]
    rows: Int64[Tensor, "N"]
    mapped: bool = False

    @classmethod
    def of(cls, images: UInt8[Tensor, "N C h w"], mapped: bool = False) -> "Pixels":
        """One image a frame."""
        return cls(images.contiguous(), torch.arange(len(images)), mapped)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Int64[Tensor, "..."] | int) -> UInt8[Tensor, "... C h w"]:
        """The images at some frames, on their device."""
        wanted = self.rows[index]
        flat = self.images.flatten(1).index_select(
            0, wanted.flatten().to(self.images.device)
        )  # several times as fast as indexing
        return flat.to(wanted.device).view(*wanted.shape, *self.shape)

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, h, w."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def select(self, kept: Bool[Tensor, "N"]) -> "Pixels":
        """Those of some frames."""
        return replace(self, rows=self.rows[kept])

    def to(self, device: torch.device) -> "Pixels":
        """On ``device``, but for mapped images, which are brought there as they are gathered."""
        images = self.images if self.mapped else self.images.to(device)
        return replace(self, images=images, rows=self.rows.to(device))


def load_pixels(files: list[Path], column: str, name: str, limit: float) -> Pixels:
    """Decode the PNG images in ``column`` of parquet ``files``, in order.

    Above ``limit`` bytes they go into a file below SCRATCH, called ``name``, which is used again when it is there. Raises
    DataError for images of different sizes.
    """
    count = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    first = _decode(next(iter(_cells(files[0], column, 1)))[0])
    shape = (count, *first.shape)
    if first.nbytes * count <= limit:
        images = np.empty(shape, np.uint8)
        _fill(images, files, column)
        return Pixels.of(torch.from_numpy(images))
    path = SCRATCH / f"{name}.npy"
    if not path.is_file():
        with atomic_file(path) as building:
            unpacked = np.lib.format.open_memmap(building, "w+", np.uint8, shape)
            _fill(unpacked, files, column)
            unpacked.flush()
    mapped = np.load(path, mmap_mode="c")  # writable as Torch wants it, though what is written stays in memory
    if mapped.shape != shape:
        raise DataError(f"{path} holds other images than {files[0].parent}; delete it.")
    return Pixels.of(torch.from_numpy(mapped), mapped=True)


def _cells(file: Path, column: str, size: int = PART) -> Any:
    return (batch[column].to_pylist() for batch in pq.ParquetFile(file).iter_batches(size, columns=[column]))


def _decode(cell: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"]), formats=["PNG"])).transpose(2, 0, 1)


def _fill(images: np.ndarray, files: list[Path], column: str) -> None:
    start = 0
    for file in files:
        for cells in _cells(file, column):
            for number, cell in enumerate(cells, start):
                image = _decode(cell)
                if image.shape != images.shape[1:]:
                    raise DataError(f"{file}: image {number} has shape {image.shape}, the first {images.shape[1:]}.")
                images[number] = image
            start += len(cells)
