"""Two critics of the latent noise: Q_i(s, w) for a frozen policy steered by w."""

import copy
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from postbc.observation import ObsShape
from postbc.observer import Observer
from postbc.policies.networks import ResidualMlp
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest


class Critics(nn.Module):
    """Q (2, B) from an observation's features (B, F) and latent noise (B, D).

    ``observer`` is the frozen policy's: features are computed once, when a transition is stored.
    """

    def __init__(self, obs: ObsShape, latent_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = {"obs": obs.json(), "latent_dim": latent_dim, "hidden": hidden, "layers": layers}
        self.obs_dim, self.latent_dim = obs.row, latent_dim
        self.observer = Observer(obs).requires_grad_(False)
        width = self.observer.features + latent_dim
        self.heads = nn.ModuleList(ResidualMlp(width, 1, hidden, layers) for _ in range(2))

    def forward(self, features: Float[Tensor, "B F"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "2 B"]:
        """Both estimates."""
        x = torch.cat([features, latent], dim=1)
        return torch.stack([head(x).squeeze(1) for head in self.heads])

    def value(self, features: Float[Tensor, "B F"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """The smaller of the two estimates."""
        return self(features, latent).amin(0)  # type: ignore[no-any-return]

    def value_of(self, obs: Float[Tensor, "B O"], latent: Float[Tensor, "B D"]) -> Float[Tensor, "B"]:
        """Likewise from raw observations."""
        return self.value(self.observer(obs), latent)


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
    shape = read_json(folder / "config.json")
    critics = Critics(ObsShape(**shape.pop("obs")), **shape)
    critics.load_state_dict(load_file(folder / "critics.safetensors"))
    return critics.eval()
