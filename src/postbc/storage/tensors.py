"""Named tensors read from safetensors files, which hold numbers and no code."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from postbc.errors import IntegrityError


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in ``path``, on the CPU. Raises IntegrityError for a file that is none of safetensors'."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise IntegrityError(f"{path} is not a safetensors file ({error}).") from error
