"""What each policy would do at a few demonstrated states, beside what was demonstrated there and what the posterior says."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from postbc.policies.policy import Policy
from postbc.posterior import artifact
from postbc.storage.manifest import check_manifest
from postbc.storage.tensors import load_tensors

STATES = ("most certain", "typical", "least certain")  # of the demonstrated states, by the posterior's spread
DRAWN = 48


@torch.no_grad()
def action_samples(policies: dict[str, Policy], posterior: Path) -> list[dict[str, Any]]:
    """Rows of first actions of a chunk, each number in half ranges of what was demonstrated, -1 to 1.

    A dimension that never varied has 0. ``who`` is demonstrated, posterior (a member's prediction) or a method, with DRAWN
    samples each.
    """
    check_manifest(posterior)
    stored = load_tensors(posterior / artifact.STATES)
    found = {"demonstrated": stored["demonstrated"][:, None], "posterior": stored["members"]}
    for name, policy in policies.items():
        found[name] = _drawn(policy, stored["rows"])
    centre, half = stored["centre"], stored["half"]
    unit = torch.where(half > 0, half, torch.inf)
    return [
        {"state": state, "who": who, **{f"action_{i}": round(float(v), 4) for i, v in enumerate((one - centre) / unit)}}
        for number, state in enumerate(STATES)
        for who, actions in found.items()
        for one in actions[number]
    ]


def _drawn(policy: Policy, rows: Float[Tensor, "N O"]) -> Float[Tensor, "N S A"]:
    normal = torch.randn(DRAWN, len(rows), policy.normal_dim, generator=torch.Generator().manual_seed(0))
    return torch.stack([policy.act(rows, w)[:, 0] for w in normal], dim=1)
