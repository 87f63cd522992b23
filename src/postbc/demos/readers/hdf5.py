"""What readers of HDF5 share: nothing but plain arrays that lie in the file itself is opened."""

import re
from collections.abc import Iterator

import h5py
import numpy as np

from postbc.demos import bounds
from postbc.demos.bounds import check_size, refuse_bomb
from postbc.errors import DataError

PACKING = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_LZF}
FILTERS = PACKING | {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def group(parent: h5py.Group, name: str, where: str) -> h5py.Group:
    """The group ``name``; DataError where it is missing, or a link that could lead into another file."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or not isinstance(parent[name], h5py.Group):
        raise DataError(f"{where}: there is no group '{name}' in it.")
    return parent[name]


def array(parent: h5py.Group, name: str, where: str) -> np.ndarray:
    """The numbers of dataset ``name``: uint8 camera images as they are, anything else as float32."""
    values = _values(parent, name, where, "fiub", "numbers")
    return values if values.dtype == np.uint8 and values.ndim == 4 else values.astype(np.float32)


def strings(parent: h5py.Group, name: str, where: str) -> np.ndarray:
    """The strings of dataset ``name``."""
    return _values(parent, name, where, "SO", "names")


def _values(parent: h5py.Group, name: str, where: str, kinds: str, what: str) -> np.ndarray:
    """Dataset ``name`` whole, if it is an array of ``what`` (dtypes ``kinds``) in this very file."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        raise DataError(f"{where}: '{name}' is missing.")
    dataset = parent[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in kinds or dataset.shape is None:
        raise DataError(f"{where}: '{name}' is not an array of {what}.")
    if dataset.external or dataset.is_virtual:
        raise DataError(f"{where}: '{name}' keeps its {what} in another file.")
    check_size(dataset.shape, dataset.dtype, f"{where}/{name}")
    _refuse_bombs(dataset, f"{where}/{name}")
    return np.asarray(dataset[()])


def _refuse_bombs(dataset: h5py.Dataset, where: str) -> None:
    """Raise DataError for chunks that could unpack to more than EPISODE_BYTES: HDF5 unpacks a chunk whole."""
    stored, limit = dataset.id.get_storage_size(), bounds.EPISODE_BYTES
    made = dataset.id.get_create_plist()
    filters = {made.get_filter(number)[0] for number in range(made.get_nfilters())}
    if filters - FILTERS or len(filters) < made.get_nfilters() or filters >= PACKING:
        raise DataError(f"{where}: packed in a way that is not read (HDF5 filters {sorted(filters)}).")
    if dataset.chunks is None or stored * bounds.DEFLATE <= limit:
        return
    places, checksum = list[tuple[int, ...]](), 4 * (h5py.h5z.FILTER_FLETCHER32 in filters)  # bytes behind a chunk
    dataset.id.chunk_iter(lambda chunk: places.append(chunk.chunk_offset))
    for place in places:
        unfiltered, data = dataset.id.read_direct_chunk(place)
        data = data[: len(data) - checksum]
        refuse_bomb(data, None if unfiltered else dataset.compression, limit, f"{where}, chunk at {place}")


def tree(parent: h5py.Group, where: str, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """(key, values) of every array below ``parent``; keys of nested groups are joined by a dot."""
    for name in sorted(parent):
        if isinstance(parent.get(name, getlink=True), h5py.HardLink) and isinstance(parent[name], h5py.Group):
            yield from tree(parent[name], f"{where}/{name}", f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", array(parent, name, where)


def plain(value: object) -> object:
    """An attribute as a JSON value; strings of fixed length come as bytes."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, bool | int | float) else str(value)


def number(name: str) -> tuple[int, str]:
    """Sorts names by the number they end in."""
    digits = re.search(r"\d+$", name)
    return (int(digits.group()) if digits else -1, name)
