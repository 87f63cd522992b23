"""An ensemble of bootstrapped regressors as samples from the demonstrator's posterior (PostBC, arXiv 2512.16911, alg. 2).

    D_e = trajectories drawn from D with replacement,   f_e = argmin_f Σ_{(s,a) ∈ D_e} ‖f(s) − a‖²,   e = 1 … E
    cov(s) = (1/E) Σ_e (f_e(s) − f̄(s)) (f_e(s) − f̄(s))ᵀ

``a`` is the flattened chunk of the next H actions (D = H·A numbers). All members are one stacked model under one
optimiser: their parameters do not touch each other, and Adam works parameter by parameter, so this equals training them
one at a time. Departure from the paper's text: predictions are bounded to the range of the demonstrated actions, because
a converged ensemble on a few trajectories extrapolates far beyond it.
"""

import math
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.storage.atomic import read_json, write_json
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.manifest import check_manifest
from postbc.training import Generators, Metrics, Run, Schedule, train


class Ensemble(nn.Module):
    """E ReLU networks side by side; weights are stacked (E, in, out), so that a layer is one batched product."""

    def __init__(self, obs_dim: int, out_dim: int, members: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = {
            "obs_dim": obs_dim,
            "out_dim": out_dim,
            "members": members,
            "hidden": hidden,
            "layers": layers,
        }
        self.obs_dim, self.members = obs_dim, members
        self.obs_normalizer, self.target_normalizer = MinMax(obs_dim), MinMax(out_dim)
        sizes = [obs_dim] + [hidden] * layers + [out_dim]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.empty(members, i, o).uniform_(-1, 1) / math.sqrt(i) for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(members, 1, o) for _, o in pairs)

    def forward(self, obs: Float[Tensor, "E B O"]) -> Float[Tensor, "E B D"]:
        """Normalised predictions from normalised observations, one batch a member."""
        x = obs
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])

    @torch.no_grad()
    def predict(self, obs: Float[Tensor, "B O"]) -> Float[Tensor, "B E D"]:
        """Every member's chunk for raw observations, in the actions' raw units, within the demonstrated range."""
        normal = self.obs_normalizer(obs)
        out = self(normal.expand(self.members, *normal.shape)).clamp(-1, 1)
        return self.target_normalizer.inverse(out.transpose(0, 1))


def trajectory_bootstrap(frames: Frames, members: int, generator: torch.Generator) -> Float[Tensor, "E N"]:
    """For each member the cumulative probability of drawing each frame.

    Whole trajectories are drawn with replacement: neighbouring frames of one trajectory are nearly copies, and drawing
    single frames would leave every member with all of the information.
    """
    count = frames.episodes
    drawn = torch.randint(count, (members, count), generator=generator)
    times = torch.zeros(members, count).scatter_add_(1, drawn, torch.ones(members, count))
    weight = times[:, frames.episode.cpu()].double()
    return (weight.cumsum(1) / weight.sum(1, keepdim=True)).float().to(frames.obs.device)


def draw(cumulative: Float[Tensor, "E N"], batch: int, generator: torch.Generator) -> Int64[Tensor, "E B"]:
    """``batch`` frame indices for each member."""
    uniform = torch.rand(len(cumulative), batch, generator=generator).to(cumulative.device)
    return torch.searchsorted(cumulative, uniform).clamp_(max=cumulative.shape[1] - 1)


def fit_ensemble(
    frames: Frames, horizon: int, config: PosteriorConfig, seed: int, checkpoints: Checkpoints
) -> tuple[Ensemble, list[Metrics]]:
    """Train all members at once on chunks of ``horizon`` actions; returns the ensemble and the loss curve."""
    generators = Generators(seed, ("bootstrap", "order", "weights"))
    torch.manual_seed(generators["weights"].initial_seed())
    everything = torch.arange(len(frames), device=frames.obs.device)
    targets = frames.chunks(everything, horizon).flatten(1)
    model = Ensemble(frames.obs.shape[1], targets.shape[1], config.members, config.hidden, config.layers)
    model.obs_normalizer, model.target_normalizer = MinMax.of(frames.obs), MinMax.of(targets)
    model.to(frames.obs.device)
    obs, normal = model.obs_normalizer(frames.obs), model.target_normalizer(targets)
    cumulative = trajectory_bootstrap(frames, config.members, generators["bootstrap"])

    def loss() -> tuple[Tensor, Metrics]:
        index = draw(cumulative, config.batch, generators["order"])
        # Sum over members: each one's gradient is that of its own mean squared error.
        return F.mse_loss(model(obs[index]), normal[index], reduction="sum") / (config.batch * normal.shape[1]), {}

    schedule = Schedule(config.steps, config.learning_rate)
    rows = train(Run("posterior", schedule, generators, checkpoints), model, loss)
    return model, [{**row, "loss": row["loss"] / config.members} for row in rows]


def save_ensemble(ensemble: Ensemble, folder: Path) -> None:
    """Write ``ensemble.safetensors`` and ``config.json`` into ``folder``."""
    save_file({k: v.contiguous().cpu() for k, v in ensemble.state_dict().items()}, folder / "ensemble.safetensors")
    write_json(folder / "config.json", ensemble.shape)


def load_ensemble(folder: Path) -> Ensemble:
    """Open what :func:`save_ensemble` wrote; IntegrityError when a byte changed."""
    check_manifest(folder)
    ensemble = Ensemble(**read_json(folder / "config.json"))
    ensemble.load_state_dict(load_file(folder / "ensemble.safetensors"))
    return ensemble.eval()
