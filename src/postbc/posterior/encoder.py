"""The encoder that all members of a posterior share where observations hold images: trained once, on the mean action."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from postbc.config import PosteriorConfig
from postbc.demos.frames import Frames
from postbc.observer import Observer, shifted
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.training import Generators, Metrics, Run, Schedule, train

HIDDEN = 256


def encoder_checkpoints(checkpoints: Checkpoints) -> Checkpoints:
    """Those of the encoder, beside those of the posterior that reads through it."""
    folder = checkpoints.folder.with_name(f"{checkpoints.folder.name}.encoder")
    return Checkpoints(folder, identity(checkpoints.identity, "encoder"))


def fit_encoder(
    observer: Observer,
    frames: Frames,
    normal: Float[Tensor, "N D"],
    config: PosteriorConfig,
    seed: int,
    checkpoints: Checkpoints,
) -> None:
    """Train ``observer``'s encoder under a small network that regresses the normalised chunks; nothing without images."""
    if observer.encoder is None:
        return
    generators = Generators(seed, ("order", "shift"))
    head = nn.Sequential(nn.Linear(observer.features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, normal.shape[1]))
    network = nn.Sequential(observer, head.to(normal.device))

    def loss() -> tuple[Tensor, Metrics]:
        index = torch.randint(len(frames), (config.batch,), generator=generators["order"]).to(normal.device)
        rows = shifted(frames.rows(index), frames.shape, generators["shift"])
        return F.mse_loss(network(rows), normal[index]), {}

    own = encoder_checkpoints(checkpoints)
    train(Run("encoder", Schedule(config.steps, config.learning_rate), generators, own), network, loss)
    observer.requires_grad_(False)
