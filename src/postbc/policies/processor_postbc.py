"""LeRobot's view of a postbc policy: its processors, which only rename, batch and move."""

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

from postbc.policies.configuration_postbc import PostbcConfig


def make_postbc_pre_post_processors(config: PostbcConfig, dataset_stats: Any = None, **_: Any) -> tuple[Any, Any]:
    """Pre- and post-processor; the model normalises by itself, so ``dataset_stats`` are not needed."""
    steps = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
    ]
    before = PolicyProcessorPipeline(steps=steps, name="policy_preprocessor")
    after = PolicyProcessorPipeline(
        steps=[DeviceProcessorStep(device="cpu")],
        name="policy_postprocessor",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    return before, after
