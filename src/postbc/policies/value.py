"""Twin critics of a choice: latent noise for DSRL, a chunk of actions for Best-of-N.

They live with the policies because a Best-of-N policy is the frozen one plus what values its samples, saved in one folder.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from postbc.policies.networks import ResidualMlp


class TwinValue(nn.Module):
    """Q (2, B) from an observation's features (B, F) and a choice (B, C)."""

    def __init__(self, features: int, choice_dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.shape = {"hidden": hidden, "layers": layers}
        self.heads = nn.ModuleList(ResidualMlp(features + choice_dim, 1, hidden, layers) for _ in range(2))

    def forward(self, features: Float[Tensor, "B F"], choice: Float[Tensor, "B C"]) -> Float[Tensor, "2 B"]:
        """Both estimates."""
        x = torch.cat([features, choice], dim=1)
        return torch.stack([head(x).squeeze(1) for head in self.heads])

    def value(self, features: Float[Tensor, "B F"], choice: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
        """The smaller of the two estimates."""
        return self(features, choice).amin(0)  # type: ignore[no-any-return]
