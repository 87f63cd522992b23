"""The posterior noise of every demonstrated frame, from the ensemble's centred predictions.

    w(s) = (1/√E) Σ_e z_e (f_e(s) − f̄(s)),   z_e ~ N(0, 1)   ⇒   cov[w(s)] = cov(s), the full matrix, of any rank

No covariance is ever formed. With one z_e for each step of a chunk its steps become independent (``step``), with one z
for each number of it only the variances are kept (``diagonal``, the paper's on Libero). The centred predictions (N, E, D)
in raw action units are the artifact. Row i belongs to global frame i of one data set, so the file carries that data set's
fingerprint and opens with no other.
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
from postbc.posterior.models import Posterior
from postbc.storage.manifest import check_manifest

FILE = "factors.safetensors"


@dataclass(frozen=True)
class Factors:
    """Centred predictions of E members for N frames, and the fingerprint of the data set of these frames."""

    centred: Float[Tensor, "N E D"]
    dataset: str
    covariance: str = "full"  # full | step | diagonal
    horizon: int = 1  # H, the steps of a chunk

    @classmethod
    def of(cls, model: Posterior, frames: Frames, horizon: int, covariance: str = "full") -> "Factors":
        """Predict every frame and subtract the members' mean."""
        predicted = model.predict_frames(frames)
        return cls(predicted - predicted.mean(1, keepdim=True), frames.fingerprint, covariance, horizon)

    def sample(self, index: Int64[Tensor, "B"], generator: torch.Generator) -> Float[Tensor, "B D"]:
        """Fresh posterior noise for the frames ``index``, in raw action units."""
        centred = self.centred[index]
        count, members, size = centred.shape
        if self.covariance == "diagonal":
            z = torch.randn(count, size, generator=generator).to(centred.device)
            return z * centred.square().mean(1).sqrt()
        steps = self.horizon if self.covariance == "step" else 1
        z = torch.randn(count, members, steps, generator=generator).to(centred.device)
        by_step = centred.unflatten(2, (steps, -1))
        return torch.einsum("beh,beha->bha", z, by_step).flatten(1) / math.sqrt(members)

    def std(self) -> Float[Tensor, "N D"]:
        """Posterior standard deviation of every action dimension of every frame's chunk."""
        return self.centred.square().mean(1).sqrt()

    def save(self, folder: Path) -> None:
        """Write the artifact into ``folder``."""
        facts = {"dataset": self.dataset, "covariance": self.covariance, "horizon": str(self.horizon)}
        save_file({"centred": self.centred.contiguous().cpu()}, folder / FILE, metadata=facts)


def load_factors(folder: Path, frames: Frames) -> Factors:
    """Open the factors that belong to ``frames``, on the same device.

    Raises MismatchError when they were made from another data set, IntegrityError when a byte changed.
    """
    check_manifest(folder)
    with safe_open(folder / FILE, framework="pt") as file:
        facts, centred = file.metadata(), file.get_tensor("centred")
    dataset = facts["dataset"]
    if dataset != frames.fingerprint or len(centred) != len(frames):
        raise MismatchError(
            f"{folder / FILE} has {len(centred)} frames of data set {dataset[:12]}, the data set at hand has "
            f"{len(frames)} and is {frames.fingerprint[:12]}. Run `dvc repro posterior`."
        )
    return Factors(centred.to(frames.obs.device), dataset, facts["covariance"], int(facts["horizon"]))
