"""LeRobot's view of a postbc policy: the model. A thin shell around :class:`~postbc.policies.policy.Policy`."""

from collections import deque
from typing import Any, ClassVar

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from postbc.demos.frames import ENVIRONMENT, STATE
from postbc.demos.normalizer import MinMax
from postbc.policies.configuration_postbc import PostbcConfig
from postbc.policies.folder import build_policy, shape_from_config
from postbc.policies.policy import Latent


class PostbcPolicy(PreTrainedPolicy):
    """Opened by ``lerobot-eval --policy.path=FOLDER`` and every other LeRobot command."""

    config_class: ClassVar[Any] = PostbcConfig
    name: ClassVar[Any] = "postbc"

    def __init__(self, config: PostbcConfig, dataset_stats: Any = None, **_: Any) -> None:
        super().__init__(config)
        config.validate_features()
        ends = {end: getattr(config, end) for end in ("input_features", "output_features")}
        sizes = {end: {key: {"shape": one.shape} for key, one in features.items()} for end, features in ends.items()}
        shape = shape_from_config({**vars(config), **sizes})
        self.policy = build_policy(shape, Latent(config.latent), (config.steering, config.scorer), config.scale)
        if dataset_stats:
            self._fit(dataset_stats)
        self.reset()

    def _fit(self, stats: dict[str, dict[str, Any]]) -> None:
        """Normalise by the ranges in a LeRobotDataset's ``stats``: the policy does that itself, not its processors."""

        def ranges(keys: list[str]) -> Tensor:
            ends = (torch.cat([torch.as_tensor(stats[key][end]).flatten() for key in keys]) for end in ("min", "max"))
            return torch.stack([end.float() for end in ends])

        vector = [key for key in (STATE, ENVIRONMENT) if key in self.config.input_features]
        model = self.policy.model
        model.observer.normalizer = MinMax.of(ranges(vector).repeat(1, self.config.n_obs_steps))
        model.action_normalizer = MinMax.of(ranges([ACTION]))

    def get_optim_params(self) -> Any:
        """Parameters that training changes: the generative model's, never the steering actor's."""
        return self.policy.model.parameters()

    def reset(self) -> None:
        """Forget the rest of the current chunk and what was seen before."""
        self._queue: deque[Tensor] = deque()
        self._seen: deque[dict[str, Tensor]] = deque(maxlen=self.config.n_obs_steps)

    def _obs(self, batch: dict[str, Tensor]) -> Tensor:
        """Rows (B, O) of observations (B, …), or (B, K, …) where K are read."""
        single = self.config.n_obs_steps == 1
        seen = {key: batch[key][:, None] if single else batch[key] for key in self.config.input_features}
        vector = [seen[key] for key in (STATE, ENVIRONMENT) if key in seen]
        images = [255 * seen[key].flatten(1) for key in self.config.image_features]  # LeRobot's lie in [0, 1]
        return torch.cat([torch.cat(vector, dim=2).flatten(1), *images], dim=1)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """The model's loss on the demonstrated chunks in ``batch``."""
        return self.policy.model.loss(self._obs(batch), batch[ACTION], torch.default_generator)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], noise: Tensor | None = None, **_: Any) -> Tensor:
        """The chunk (B, H, A) in raw units; ``noise`` (B, D) or (B, H, A) replaces the policy's own choice."""
        features = self.policy.model.observer(self._obs(batch))
        latent = self.policy.noise(features) if noise is None else noise.flatten(1)
        return self.policy.decode(features, latent)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], noise: Tensor | None = None, **_: Any) -> Tensor:
        """The next action (B, A) for observations (B, …); a new chunk is drawn when the last one is used up."""
        seen = {key: batch[key] for key in self.config.input_features}
        self._seen.extend([seen] * (1 if self._seen else self.config.n_obs_steps))
        if not self._queue:
            if self.config.n_obs_steps > 1:
                seen = {key: torch.stack([past[key] for past in self._seen], dim=1) for key in seen}
            self._queue.extend(self.predict_action_chunk(seen, noise=noise).unbind(1))
        return self._queue.popleft()
