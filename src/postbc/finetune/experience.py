"""What a robot has gone through since the last checkpoint, on the disk as soon as it is known: robot time is not had twice.

Records of whole transitions behind each other, each a length and then a safetensors file. What a kill cut off, or a power cut
left as zeros, is left out.
"""

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from postbc.sims.vector import Transition
from postbc.storage.atomic import append

log = logging.getLogger("postbc")
LENGTH = struct.Struct("<Q")
ARRAYS = [field.name for field in fields(Transition) if field.name != "intervened"]


@dataclass(frozen=True)
class Record:
    """One chunk: what was seen and chosen, and what came of it; ``env_steps`` and ``starts_used`` after it."""

    obs: Tensor
    choice: Tensor
    step: Transition
    env_steps: int
    starts_used: int


class Experience:
    """Records of the run ``identity`` at ``path``; without a path nothing is written."""

    def __init__(self, path: Path | None = None, identity: str = "") -> None:
        self.path, self.identity = path, identity.encode()
        self._mended = False

    def add(self, record: Record) -> None:
        """Append a record."""
        if self.path is None:
            return
        arrays = {f"step.{name}": np.ascontiguousarray(getattr(record.step, name)) for name in ARRAYS}
        counts = np.array([record.env_steps, record.starts_used, record.step.intervened], np.int64)
        arrays |= {"obs": record.obs.numpy(), "choice": record.choice.contiguous().numpy(), "counts": counts}
        self._append(save(arrays))

    def _append(self, body: bytes) -> None:
        assert self.path is not None  # noqa: S101 - the callers ask
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mend()
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if os.fstat(file).st_size == 0:
                append(file, LENGTH.pack(len(self.identity)) + self.identity)
            append(file, LENGTH.pack(len(body)) + body)
        finally:
            os.close(file)

    def _mend(self) -> None:
        """Cut off what is not whole, put aside what is another run's, so that what is appended can be read."""
        assert self.path is not None  # noqa: S101 - the callers ask
        if self._mended:
            return
        parts, self._mended = list(self._parts()), True
        if parts and parts[0] == self.identity:
            os.truncate(self.path, sum(LENGTH.size + len(part) for part in parts))
        elif parts:
            aside = self.path.with_name(f"{self.path.name}.{self.path.stat().st_mtime_ns}")
            log.warning("what a run with other settings has gone through is kept as %s", self.path.rename(aside))

    def since(self, env_steps: int) -> Iterator[Record]:
        """Records of this run after ``env_steps``, in order; none of another run's."""
        parts = self._parts()
        if next(parts, None) != self.identity:
            return
        for body in parts:
            found = load(body)
            steps, starts, intervened = map(int, found.pop("counts"))
            if steps > env_steps:
                obs, choice = (torch.from_numpy(found.pop(name).copy()) for name in ("obs", "choice"))
                step = Transition(**{k.removeprefix("step."): v for k, v in found.items()}, intervened=bool(intervened))
                yield Record(obs, choice, step, steps, starts)

    def _parts(self) -> Iterator[bytes]:
        data = memoryview(self.path.read_bytes() if self.path is not None and self.path.exists() else b"")
        while len(data) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(data)
            body, data = bytes(data[LENGTH.size : LENGTH.size + size]), data[LENGTH.size + size :]
            if not size or len(body) < size or not any(body):
                return
            yield body

    def clear(self) -> None:
        """A checkpoint holds it all."""
        if self.path is not None:
            self._mend()
            self.path.unlink(missing_ok=True)
