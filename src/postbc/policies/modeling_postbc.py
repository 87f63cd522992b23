"""LeRobot's view of a postbc policy: the model. A thin shell around :class:`~postbc.policies.policy.Policy`."""

from collections import deque
from typing import Any, ClassVar

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from postbc.policies.configuration_postbc import PostbcConfig
from postbc.policies.folder import build_policy
from postbc.policies.generative import PolicyShape
from postbc.policies.policy import Latent


class PostbcPolicy(PreTrainedPolicy):
    """Opened by ``lerobot-eval --policy.path=FOLDER`` and every other LeRobot command."""

    config_class: ClassVar[Any] = PostbcConfig
    name: ClassVar[Any] = "postbc"

    def __init__(self, config: PostbcConfig, **_: Any) -> None:
        super().__init__(config)
        config.validate_features()
        shape = PolicyShape(
            config.robot_state_feature.shape[0],
            config.env_state_feature.shape[0],
            config.action_feature.shape[0],
            config.chunk_size,
            config.hidden,
            config.layers,
            config.denoising_steps,
            config.inference_steps,
            config.kind,
            config.conditional,
        )
        self.policy = build_policy(shape, Latent(config.latent), config.steering, config.scale)
        self._training_noise = torch.Generator()
        self.reset()

    def get_optim_params(self) -> Any:
        """Parameters that training changes: the generative model's, never the steering actor's."""
        return self.policy.model.parameters()

    def reset(self) -> None:
        """Forget the rest of the current chunk."""
        self._queue: deque[Tensor] = deque()

    @staticmethod
    def _obs(batch: dict[str, Tensor]) -> Tensor:
        return torch.cat([batch["observation.state"], batch["observation.environment_state"]], dim=-1)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The model's loss on the demonstrated chunks in ``batch``."""
        return self.policy.model.loss(self._obs(batch), batch["action"], self._training_noise)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], noise: Tensor | None = None, **_: Any) -> Tensor:
        """The chunk (B, H, A) in raw units; ``noise`` (B, D) or (B, H, A) replaces the policy's own choice."""
        obs = self._obs(batch)
        latent = self.policy.noise(obs) if noise is None else noise.flatten(1)
        return self.policy.decode(obs, latent)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **_: Any) -> Tensor:
        """The next action (B, A); a new chunk is drawn when the last one is used up."""
        if not self._queue:
            self._queue.extend(self.predict_action_chunk(batch, noise=noise).unbind(1))
        return self._queue.popleft()
