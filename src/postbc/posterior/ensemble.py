"""An ensemble of bootstrapped regressors as samples from the demonstrator's posterior (PostBC, arXiv 2512.16911, alg. 2).

    D_e = trajectories drawn from D with replacement,   f_e = argmin_f Σ_{(s,a) ∈ D_e} ‖f(s) − a‖²,   e = 1 … E
    cov(s) = (1/E) Σ_e (f_e(s) − f̄(s)) (f_e(s) − f̄(s))ᵀ

``a`` is the flattened chunk of the next H actions (D = H·A numbers). All members are one stacked model under one
optimiser: their parameters do not touch each other, and Adam works parameter by parameter, so this equals training them
one at a time. With ``prior`` > 0 member e is f_e + prior · p_e with a fixed random network p_e (Osband et al. 2018), which
keeps members apart where there is no data; p_e is as large as the actions' half range at the demonstrated states (root mean
square over members, states and numbers), so that ``prior`` is in half ranges. Departure from the paper's text: predictions
are bounded to the range of the demonstrated actions, because a converged ensemble on a few trajectories extrapolates far
beyond it. Members read images through one encoder, trained beforehand and the same for all: the ensemble is uncertain of
actions, not of what is seen.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.posterior.bootstrap import Resampled
from postbc.posterior.encoder import fit_encoder
from postbc.posterior.network import Regressors, StackedMlp
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Generators, Metrics, Run, Schedule, train

PRIOR_ROWS = 4096  # frames at once


class Ensemble(Regressors):
    """E networks of ``layers`` hidden layers."""

    def __init__(
        self, obs: dict[str, Any], out_dim: int, members: int, hidden: int, layers: int, prior: float = 0.0
    ) -> None:
        form = {"hidden": hidden, "layers": layers, "prior": prior}
        super().__init__(obs=obs, out_dim=out_dim, members=members, **form)
        sizes = [self.observer.features] + [hidden] * layers + [out_dim]
        self.network, self.prior_weight = StackedMlp(sizes, members), prior
        self.prior = StackedMlp(sizes, members).spread_out().requires_grad_(False) if prior else None

    @torch.no_grad()
    def match_prior(self, features: Float[Tensor, "N F"]) -> None:
        """Make the prior functions as large as the half range at these ``features`` of the demonstrations."""
        if self.prior is not None:
            parts = features.split(PRIOR_ROWS)
            total = sum(float(self.prior(x.expand(self.members, *x.shape)).square().sum()) for x in parts)
            size = math.sqrt(total / (self.members * len(features) * self.target_normalizer.scale.numel()))
            for last in (self.prior.weights[-1], self.prior.biases[-1]):
                last.div_(size)

    def forward(self, features: Float[Tensor, "E B F"]) -> Float[Tensor, "E B D"]:
        """Normalised predictions from an observation's features, one batch a member."""
        out: Tensor = self.network(features)
        return out if self.prior is None else out + self.prior_weight * self.prior(features)

    def normal_predictions(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B E D"]:
        """Normalised chunks of every member from an observation's features."""
        return self(features.expand(self.members, *features.shape)).transpose(0, 1)  # type: ignore[no-any-return]


def fit_ensemble(
    frames: Frames, horizon: int, config: PosteriorConfig, seed: int, checkpoints: Checkpoints
) -> tuple[Ensemble, list[Metrics]]:
    """Train all members at once on chunks of ``horizon`` actions; returns the ensemble and the loss curve."""
    generators = Generators(seed, ("bootstrap", "order", "weights"))
    torch.manual_seed(generators.seed("weights"))
    targets = frames.all_chunks(horizon)
    form = (config.hidden, config.layers, config.prior)
    model = Ensemble(frames.shape.json(), targets.shape[1], config.members, *form)
    normal = model.fit_ranges(frames, targets)
    fit_encoder(model.observer, frames, normal, config, seed, checkpoints)
    features = model.features(frames)
    model.match_prior(features)
    data = Resampled.of(frames, targets.shape[1], config, generators["bootstrap"])

    def loss() -> tuple[Tensor, Metrics]:
        index = data.draw(config.batch, generators["order"])
        wanted = data.targets(index, normal)
        # Sum over members: each one's gradient is that of its own mean squared error.
        return F.mse_loss(model(features[index]), wanted, reduction="sum") / (config.batch * normal.shape[1]), {}

    schedule = Schedule(config.steps, config.learning_rate)
    rows = train(Run("posterior", schedule, generators, checkpoints), model, loss)
    return model, [{**row, "loss": row["loss"] / config.members} for row in rows]
