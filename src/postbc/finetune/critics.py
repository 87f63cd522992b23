"""Two critics of a choice as an artifact: Q_i(s, w) of the latent noise, or Q_i(s, a) of a normalised chunk."""

import copy
from pathlib import Path

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from postbc.observation import ObsShape
from postbc.observer import Observer
from postbc.policies.value import TwinValue
from postbc.storage.atomic import atomic_folder, read_json, write_json
from postbc.storage.manifest import check_manifest, write_manifest
from postbc.storage.tensors import load_tensors


class Critics(nn.Module):
    """Twin critics (2, B) with the frozen policy's ``observer``, which makes features of raw observations.

    Training works on features, which are computed once when a transition is stored.
    """

    def __init__(self, obs: ObsShape, choice_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = {"obs": obs.json(), "choice_dim": choice_dim, "hidden": hidden, "layers": layers}
        self.obs_dim, self.choice_dim = obs.row, choice_dim
        self.observer = Observer(obs).requires_grad_(False)
        self.twin = TwinValue(self.observer.features, choice_dim, hidden, layers)

    @classmethod
    def of(cls, observer: Observer, choice_dim: int, hidden: int, layers: int) -> "Critics":
        """Fresh ones beside a frozen policy's ``observer``."""
        critics = cls(observer.shape, choice_dim, hidden, layers)
        critics.observer.load_state_dict(observer.state_dict())
        return critics

    def forward(self, features: Float[Tensor, "B F"], choice: Float[Tensor, "B C"]) -> Float[Tensor, "2 B"]:
        """Both estimates."""
        return self.twin(features, choice)  # type: ignore[no-any-return]

    def value(self, features: Float[Tensor, "B F"], choice: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
        """The smaller of the two estimates."""
        return self.twin.value(features, choice)

    def value_of(self, obs: Float[Tensor, "B O"], choice: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
        """Likewise from raw observations."""
        return self.value(self.observer(obs), choice)


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
    critics.load_state_dict(load_tensors(folder / "critics.safetensors"))
    return critics.eval()
