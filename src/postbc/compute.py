"""Where training runs: this CPU, a GPU, or several of either, each a process of its own (by Hugging Face Accelerate).

Processes hold the same weights, draw different frames with different noise, and average their gradients, so that n of them
with a batch of B/n each do what one with B does, but for the random numbers.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


class Compute:
    """This process's place among those that train together; ``precision`` is float32, bf16 or auto (bf16 on a GPU)."""

    def __init__(self, precision: str = "float32") -> None:
        gpu = torch.cuda.is_available()
        half = precision == "bf16" or (precision == "auto" and gpu and torch.cuda.is_bf16_supported())
        self._accelerator = Accelerator(cpu=not gpu)
        self._half = half
        self.device: torch.device = self._accelerator.device
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes

    @property
    def main(self) -> bool:
        """Whether this process writes what comes of the training."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """This process's part of a batch."""
        return -(-batch // self.count)

    def autocast(self) -> AbstractContextManager[Any]:
        """Products in bfloat16 where precision says so; weights, sums and losses stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace ``gradients`` by their means over the processes."""
        if self.count == 1:
            return
        flat = self._accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every process, in order."""
        return list(gather_object([value])) if self.count > 1 else [value]

    def end(self) -> None:
        """Part from the other processes."""
        self._accelerator.end_training()


def spread(processes: int, module: str, arguments: Sequence[str]) -> None:
    """Replace this process by ``processes`` that run ``module`` together (0: one a GPU); returns where it is one of them."""
    wanted = processes or torch.cuda.device_count() or 1
    if wanted > 1 and "WORLD_SIZE" not in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // wanted)))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={wanted}"]
        os.execv(sys.executable, [*launcher, "-m", module, *arguments])  # noqa: S606 - no shell; the same interpreter
