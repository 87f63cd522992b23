"""What each member of an ensemble is trained on: which frames, how often, and towards which actions."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames


def trajectories(frames: Frames, members: int, generator: torch.Generator) -> Float[Tensor, "E N"]:
    """How often each frame is in each member's data when whole trajectories are drawn with replacement.

    Neighbouring frames of a trajectory are nearly copies: drawing single frames leaves every member with nearly all of
    the information, and the ensemble certain of what it does not know.
    """
    drawn = torch.randint(frames.episodes, (members, frames.episodes), generator=generator)
    times = torch.zeros(members, frames.episodes).scatter_add_(1, drawn, torch.ones(drawn.shape))
    return times[:, frames.episode.cpu()]


def samples(frames: Frames, members: int, generator: torch.Generator) -> Float[Tensor, "E N"]:
    """Likewise when single frames are drawn with replacement, as the paper does on Libero."""
    drawn = torch.randint(len(frames), (members, len(frames)), generator=generator)
    return torch.zeros(members, len(frames)).scatter_add_(1, drawn, torch.ones(drawn.shape))


@dataclass(frozen=True)
class Resampled:
    """The data of E members: the cumulative probability of each frame, and what is added to its normalised actions."""

    cumulative: Float[Tensor, "E N"]
    noise: Float[Tensor, "E N D"] | None

    @classmethod
    def of(cls, frames: Frames, targets: int, config: PosteriorConfig, generator: torch.Generator) -> "Resampled":
        """Draw the data as ``config.bootstrap`` says, for ``targets`` = D numbers a frame."""
        if config.bootstrap == "targets":
            # Lemma 7: regressions on perturbed targets are samples of the posterior. An action is perturbed once, in all
            # chunks that it is part of.
            size, index = frames.action.shape[1], torch.arange(len(frames), device=frames.obs.device)
            once = torch.randn(config.members, len(frames), size, generator=generator).to(frames.obs.device)
            noise = once[:, frames.ahead(index, targets // size)].flatten(2)
            return cls(cumulative(torch.ones(config.members, len(frames)), frames), config.target_noise * noise)
        draw = trajectories if config.bootstrap == "trajectory" else samples
        return cls(cumulative(draw(frames, config.members, generator), frames), None)

    def draw(self, batch: int, generator: torch.Generator) -> Int64[Tensor, "E B"]:
        """``batch`` frame indices for each member."""
        uniform = torch.rand(len(self.cumulative), batch, generator=generator).to(self.cumulative.device)
        return torch.searchsorted(self.cumulative, uniform).clamp_(max=self.cumulative.shape[1] - 1)

    def targets(self, index: Int64[Tensor, "E B"], normal: Float[Tensor, "N D"]) -> Float[Tensor, "E B D"]:
        """Each member's own targets for these frames."""
        if self.noise is None:
            return normal[index]
        return normal[index] + self.noise[torch.arange(len(index), device=index.device)[:, None], index]


def cumulative(times: Float[Tensor, "E N"], frames: Frames) -> Float[Tensor, "E N"]:
    """Cumulative probabilities from how often each frame is there, on the device of ``frames``."""
    weight = times.double()
    return (weight.cumsum(1) / weight.sum(1, keepdim=True)).float().to(frames.obs.device)
