"""Two critics of the latent noise: Q_i(s, w) for a frozen policy steered by w."""

import copy
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from postbc.demos.normalizer import MinMax
from postbc.policies.networks import ResidualMlp
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest


class Critics(nn.Module):
    """Q (2, B) from raw observations (B, O) and latent noise (B, D)."""

    def __init__(self, obs_dim: int, latent_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = {"obs_dim": obs_dim, "latent_dim": latent_dim, "hidden": hidden, "layers": layers}
        self.obs_dim, self.latent_dim = obs_dim, latent_dim
        self.obs_normalizer = MinMax(obs_dim)
        self.heads = nn.ModuleList(ResidualMlp(obs_dim + latent_dim, 1, hidden, layers) for _ in range(2))

    def forward(self, obs: Float[Tensor, "B O"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "2 B"]:
        """Both estimates."""
        x = torch.cat([self.obs_normalizer(obs), latent], dim=1)
        return torch.stack([head(x).squeeze(1) for head in self.heads])

    def value(self, obs: Float[Tensor, "B O"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """The smaller of the two estimates."""
        return self(obs, latent).amin(0)  # type: ignore[no-any-return]


def target_of(critics: Critics) -> Critics:
    """A copy that follows slowly and is never differentiated."""
    target = copy.deepcopy(critics)
    return target.requires_grad_(False)


def save_critics(critics: Critics, folder: Path) -> None:
    """Write the critics' artifact folder, whole or not at all."""
    with atomic_folder(folder) as building:
        write_json(building / "config.json", critics.shape)
        weights = {k: v.detach().contiguous().cpu() for k, v in critics.state_dict().items()}
        save_file(weights, building / "critics.safetensors")
        write_manifest(building)


def load_critics(folder: Path) -> Critics:
    """Open what :func:`save_critics` wrote; IntegrityError when a byte changed."""
    check_manifest(folder)
    critics = Critics(**read_json(folder / "config.json"))
    critics.load_state_dict(load_file(folder / "critics.safetensors"))
    return critics.eval()
