"""Is the posterior as wide as the mean is wrong? Measured on episodes that were held out.

The model is fitted without a fold of episodes and predicts them: mean m, posterior variance V, residual r = a − m. What a
residual holds is what the demonstrator varies by himself and what is not known about his mean:

    r_nd ~ N(0, v_d + κ V_nd)      (n a held-out frame, d one of the D numbers of a chunk, in half ranges)

v_d (his own variance, one a dimension) and κ (how much of the posterior's variance shows up as error) maximise that
likelihood together. κ = 1 says that the posterior is right, κ < 1 that it is too wide, κ ≈ 0 that where the members
disagree they are no more wrong than elsewhere. **alpha: auto** is √κ, limited to ALPHA_RANGE: the posterior noise then has
the size of the mean's error on episodes that were not seen. Interval: bootstrap over held-out episodes, because frames of
one episode are wrong together. Departure from taking the residuals' size itself: that would count the demonstrator's own
variation a second time (the policy clones it anyhow) and asks for noise that costs success.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.optimize import minimize
from torch import Tensor

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import half_range
from postbc.posterior.models import Posterior, fit_posterior
from postbc.scoring import energy_score
from postbc.storage.checkpoint import Checkpoints, identity

ALPHA_RANGE: Final = (0.25, 2.0)
LEVELS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
RESAMPLES: Final = 40
FLOOR: Final = 1e-6  # of variances, in squared half ranges
MOST: Final = 8192  # frames that are looked at; it takes time and memory in proportion


@dataclass(frozen=True)
class HeldOut:
    """Predictions of frames whose episodes the model had not seen, in half ranges; dimensions that never vary left out."""

    residual: Float[Tensor, "N D"]
    centred: Float[Tensor, "N E D"]
    episode: Int64[Tensor, "N"]

    def thinned(self, most: int) -> "HeldOut":
        """At most ``most`` frames, evenly spaced: enough, where neighbours are wrong together."""
        if len(self.residual) <= most:
            return self
        rows = torch.linspace(0, len(self.residual) - 1, most).long()
        return HeldOut(self.residual[rows], self.centred[rows], self.episode[rows])

    @property
    def variance(self) -> Float[Tensor, "N D"]:
        """V, the posterior's."""
        return self.centred.square().mean(1)


@dataclass(frozen=True)
class Calibration:
    """What the held-out episodes say; ``alpha`` follows from it."""

    alpha: float
    alpha_low: float  # 95 % interval
    alpha_high: float
    kappa: float
    own_spread: float  # root mean square of what the demonstrator varies by himself, in half ranges
    posterior_spread: float  # root mean square of the posterior, likewise
    residual: float  # root mean square error of the mean, likewise
    coverage: dict[str, list[float]]  # share of residuals inside each level's interval: before, after, both
    energy_score: dict[str, float]  # of predictive samples at α = 0 (see calibrate), 1 and alpha; smaller is better
    reason: str


def can_hold_out(episodes: int, folds: int) -> bool:
    """Whether each fold leaves two episodes at least: one alone, resampled, is itself, a posterior without width."""
    return folds > 1 and episodes - math.ceil(episodes / min(folds, episodes)) >= 2


def hold_out(frames: Frames, horizon: int, config: PosteriorConfig, seed: int, checkpoints: Checkpoints) -> HeldOut:
    """Fit without each fold of episodes in turn and predict it. There are at most as many folds as episodes."""
    order = torch.randperm(frames.episodes, generator=torch.Generator().manual_seed(seed))
    folds = order.to(frames.episode.device).tensor_split(min(config.folds, frames.episodes))
    parts = []
    for number, fold in enumerate(folds):
        seen, unseen = torch.cat([*folds[:number], *folds[number + 1 :]]), fold.sort().values
        own = Checkpoints(checkpoints.folder / f"fold_{number}", identity(checkpoints.identity, number))
        model, _ = fit_posterior(frames.select(seen), horizon, config, seed, own)
        parts.append(_predicted(model, frames, unseen, horizon))
    residual, centred, episode = (torch.cat(column).cpu() for column in zip(*parts, strict=True))
    return HeldOut(residual, centred, episode)


def _predicted(
    model: Posterior, frames: Frames, episodes: Int64[Tensor, "K"], horizon: int
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N E D"], Int64[Tensor, "N"]]:
    """Residuals, centred predictions and episode of the frames of ``episodes``, in half ranges of all ``frames``."""
    half = half_range(frames.action).repeat(horizon)
    varied, unseen = half > 0, frames.select(episodes)
    predicted = model.predict_frames(unseen)[..., varied] / half[varied]
    mean = predicted.mean(1)
    residual = unseen.all_chunks(horizon)[:, varied] / half[varied] - mean
    return residual, predicted - mean[:, None], episodes[unseen.episode]


def separate(residual: Float[Tensor, "N D"], variance: Float[Tensor, "N D"]) -> tuple[float, Float[Tensor, "D"]]:
    """κ and v_d that maximise the likelihood of the residuals; ``variance`` is the posterior's."""
    squared, known = residual.double().square().numpy(), variance.double().numpy()
    size = squared.shape[1]

    def objective(log: np.ndarray) -> tuple[float, np.ndarray]:
        own, kappa = np.exp(log[:size]), math.exp(log[size])
        total = own + kappa * known + FLOOR
        slope = (1 / total - squared / total**2) / (2 * squared.size)
        value = float((np.log(total) + squared / total).mean() / 2)
        return value, np.append(own * slope.sum(0), kappa * (slope * known).sum())

    start = np.log(np.append(squared.mean(0) / 2 + FLOOR, 0.5))
    bounds = [(math.log(FLOOR), 4.0)] * size + [(math.log(1e-4), math.log(1e3))]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return float(np.exp(found.x[size])), torch.from_numpy(np.exp(found.x[:size]))


def _inside(held: HeldOut, variance: Float[Tensor, "N D"]) -> list[float]:
    """Share of residuals within the central interval of each of LEVELS of N(0, ``variance``)."""
    score = held.residual.double().abs() / variance.clamp_min(FLOOR).sqrt()
    width = torch.special.ndtri(torch.tensor([(1 + level) / 2 for level in LEVELS], dtype=torch.double))
    return [float((score <= w).double().mean()) for w in width]


def predictive(held: HeldOut, own: Float[Tensor, "D"], alpha: float, samples: int = 16) -> Float[Tensor, "S N D"]:
    """Samples of what the demonstrator does beside the mean: α w + N(0, v)."""
    generator = torch.Generator().manual_seed(0)
    count, members, size = held.centred.shape
    z = torch.randn(samples, count, members, generator=generator) / math.sqrt(members)
    noise = torch.randn(samples, count, size, generator=generator) * own.float().sqrt()
    return alpha * torch.einsum("sne,ned->snd", z, held.centred) + noise


def calibrate(held: HeldOut, seed: int) -> Calibration:
    """Separate the two sources of error and choose α.

    Without a posterior (α = 0) all of the residuals has to be the demonstrator's own variation: that is what the energy
    score of "0" is of, not of a distribution that lacks a part.
    """
    held = held.thinned(MOST)
    variance = held.variance
    kappa, own = separate(held.residual, variance)
    rows = [torch.where(held.episode == episode)[0] for episode in torch.unique(held.episode)]
    generator = torch.Generator().manual_seed(seed)
    resampled = []
    for _ in range(RESAMPLES):
        drawn = torch.cat([rows[i] for i in torch.randint(len(rows), (len(rows),), generator=generator)])
        resampled.append(separate(held.residual[drawn], variance[drawn])[0])
    alpha, (low, high) = _limited(math.sqrt(kappa)), np.quantile(np.sqrt(resampled), (0.025, 0.975))
    variance, alone = variance.double(), held.residual.double().square().mean(0)
    return Calibration(
        alpha=alpha,
        alpha_low=_limited(float(low)),
        alpha_high=_limited(float(high)),
        kappa=kappa,
        own_spread=float(own.mean().sqrt()),
        posterior_spread=float(variance.mean().sqrt()),
        residual=float(held.residual.square().mean().sqrt()),
        coverage={
            "level": list(LEVELS),
            "posterior alone": _inside(held, variance),
            "posterior and own variation": _inside(held, own + variance),
            "after scaling": _inside(held, own + alpha**2 * variance),
        },
        energy_score={
            name: float(energy_score(predictive(held, beside, size), held.residual)[0])
            for name, beside, size in (("0", alone, 0.0), ("1", own, 1.0), ("alpha", own, alpha))
        },
        reason=_reason(math.sqrt(kappa), alpha, len(rows)),
    )


def _limited(alpha: float) -> float:
    low, high = ALPHA_RANGE
    return min(max(alpha, low), high)


def _reason(found: float, alpha: float, episodes: int) -> str:
    said = f"on {episodes} held-out episodes the mean is off by {found:.2f} times what the posterior says"
    return said if alpha == found else f"{said}; limited to {alpha:.2f}"
