"""Posterior noise for LeRobot's own policies (diffusion U-Net, ACT, …): a step of their pre-processor, in training only.

The noise is looked up by the frame's global ``index`` and added in raw action units, before anything normalises. The step
refuses to be saved: a policy's folder must open with stock LeRobot and act without the demonstrations at hand.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from lerobot.processor import DataProcessorPipeline, ProcessorStep, TransitionKey
from torch import Tensor

from postbc.config import Method
from postbc.errors import ConfigError, MismatchError
from postbc.posterior.targets import Targets


@dataclass
class PosteriorNoiseStep(ProcessorStep):
    """Adds what ``targets`` adds to chunks of H actions that begin ``first`` frames after the current one.

    ``first`` is the smallest of the policy's ``action_delta_indices``: 0 for ACT, negative where several observations are
    read. Raises ConfigError for a conditional method, which a policy of LeRobot cannot read.
    """

    targets: Targets
    generator: torch.Generator
    first: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.targets.method is Method.POSTBC_CONDITIONAL:
            raise ConfigError("postbc_conditional needs a policy that reads the scale of the noise; LeRobot's do not.")

    def __call__(self, transition: Any) -> Any:
        """The transition with perturbed actions (B, H, A). Raises MismatchError without ``index`` or for another H."""
        action = transition[TransitionKey.ACTION]
        index = (transition.get(TransitionKey.COMPLEMENTARY_DATA) or {}).get("index")
        if index is None:
            raise MismatchError("A batch has no `index`: the posterior noise of its frames cannot be looked up.")
        if action.shape[1] != self.targets.horizon:
            raise MismatchError(
                f"The policy predicts {action.shape[1]} actions, the posterior was fitted to chunks of "
                f"{self.targets.horizon}: set task.chunk and run `dvc repro posterior`."
            )
        return {**transition, TransitionKey.ACTION: action + self._noise(index.flatten() + self.first).to(action)}

    def _noise(self, begin: Int64[Tensor, "B"]) -> Float[Tensor, "B H A"]:
        """Noise of the chunks from ``begin`` on; before an episode that of its first action, which LeRobot repeats there."""
        frames = self.targets.frames
        first = torch.searchsorted(frames.episode, frames.episode[begin - self.first])
        noise = self.targets.noise(torch.maximum(begin, first), self.generator)
        place = torch.arange(noise.shape[1]) - (first - begin).clamp_min(0)[:, None]
        return noise.gather(1, place.clamp_min(0)[..., None].expand_as(noise))

    def get_config(self) -> dict[str, Any]:
        """Raises ConfigError: :func:`without_noise` comes before saving."""
        raise ConfigError(
            "posterior noise belongs to training: save postbc.policies.noise_step.without_noise(pipeline)."
        )

    def transform_features(self, features: Any) -> Any:
        """Nothing changes but values."""
        return features


def with_noise(pipeline: Any, step: PosteriorNoiseStep) -> Any:
    """The pre-processor with ``step`` before all others."""
    return _of_steps(pipeline, [step, *pipeline.steps])


def without_noise(pipeline: Any) -> Any:
    """The pre-processor as it is saved and deployed."""
    return _of_steps(pipeline, [step for step in pipeline.steps if not isinstance(step, PosteriorNoiseStep)])


def _of_steps(pipeline: Any, steps: list[Any]) -> Any:
    ends = {"to_transition": pipeline.to_transition, "to_output": pipeline.to_output}
    return DataProcessorPipeline(steps=steps, name=pipeline.name, **ends)
