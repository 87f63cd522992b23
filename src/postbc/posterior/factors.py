"""The posterior noise of every demonstrated frame, from the ensemble's centred predictions.

    w(s) = (1/√E) Σ_e z_e (f_e(s) − f̄(s)),   z_e ~ N(0, 1)   ⇒   cov[w(s)] = cov(s), the full matrix, of any rank

No covariance is ever formed. The centred predictions (N, E, D) in raw action units are the artifact. Row i belongs to
global frame i of one data set, so the file carries that data set's fingerprint and opens with no other.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from postbc.demos.frames import Frames
from postbc.errors import MismatchError
from postbc.posterior.ensemble import Ensemble
from postbc.storage.manifest import check_manifest

FILE = "factors.safetensors"


@dataclass(frozen=True)
class Factors:
    """Centred predictions of E members for N frames, and the fingerprint of the data set of these frames."""

    centred: Float[Tensor, "N E D"]
    dataset: str

    @classmethod
    def of(cls, ensemble: Ensemble, frames: Frames, batch: int = 4096) -> "Factors":
        """Predict every frame and subtract the members' mean."""
        predicted = torch.cat([ensemble.predict(obs) for obs in frames.obs.split(batch)])
        return cls(predicted - predicted.mean(1, keepdim=True), frames.fingerprint)

    def sample(self, index: Int64[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B D"]:
        """Fresh posterior noise for the frames ``index``, in raw action units."""
        centred = self.centred[index]
        z = torch.randn(centred.shape[:2], generator=generator).to(centred.device)
        return torch.einsum("be,bed->bd", z, centred) / math.sqrt(centred.shape[1])

    def std(self) -> Float[Tensor, "N D"]:
        """Posterior standard deviation of every action dimension of every frame's chunk."""
        return self.centred.square().mean(1).sqrt()

    def save(self, folder: Path) -> None:
        """Write the artifact into ``folder``."""
        save_file({"centred": self.centred.contiguous().cpu()}, folder / FILE, metadata={"dataset": self.dataset})


def load_factors(folder: Path, frames: Frames) -> Factors:
    """Open the factors that belong to ``frames``, on the same device.

    Raises MismatchError when they were made from another data set, IntegrityError when a byte changed.
    """
    check_manifest(folder)
    with safe_open(folder / FILE, framework="pt") as file:
        dataset, centred = file.metadata()["dataset"], file.get_tensor("centred")
    if dataset != frames.fingerprint or len(centred) != len(frames):
        raise MismatchError(
            f"{folder / FILE} has {len(centred)} frames of data set {dataset[:12]}, the data set at hand has "
            f"{len(frames)} and is {frames.fingerprint[:12]}. Run `dvc repro posterior`."
        )
    return Factors(centred.to(frames.obs.device), dataset)
