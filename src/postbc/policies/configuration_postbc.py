"""LeRobot's view of a postbc policy: its configuration. File and class names follow LeRobot's plugin convention."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim.optimizers import AdamWConfig

from postbc.policies.generative import EVEN


@PreTrainedConfig.register_subclass("postbc")
@dataclass
class PostbcConfig(PreTrainedConfig):
    """Fields of ``config.json`` in a policy folder; see :mod:`postbc.policies.folder`."""

    chunk_size: int = 4
    hidden: int = 512
    layers: int = 3
    denoising_steps: int = 100
    inference_steps: int = 8
    spacing: str = EVEN  # older folders say nothing
    kind: str = "diffusion"
    conditional: bool = False
    tuned_steps: int = 0
    features: dict[str, Any] | None = None
    scale: float = 0.0
    latent: str = "sample"
    steering: dict[str, Any] | None = None
    scorer: dict[str, Any] | None = None
    # The model normalises by itself.
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("STATE", "ENV", "VISUAL", "ACTION"), NormalizationMode.IDENTITY)
    )

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Offsets of the observations in a row; None where only the present one is read."""
        return list(range(1 - self.n_obs_steps, 1)) if self.n_obs_steps > 1 else None

    @property
    def action_delta_indices(self) -> list[int]:
        """Offsets of the actions in a chunk."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """Rewards are not used in pretraining."""

    def get_optimizer_preset(self) -> AdamWConfig:
        """What lerobot-train would use."""
        return AdamWConfig(lr=1e-3, weight_decay=1e-6)

    def get_scheduler_preset(self) -> None:
        """No schedule."""

    def validate_features(self) -> None:
        """Raise ValueError unless there are a state and an action, and one image at most.

        A robot without a camera, and nothing that looks for it, observes its joints alone.
        """
        if not (self.robot_state_feature and self.action_feature) or len(self.image_features) > 1:
            raise ValueError("postbc needs observation.state, action, and at most one image (observation.image)")
