"""The finetuners by name."""

from collections.abc import Callable

from postbc.config import FinetuneConfig
from postbc.finetune.best_of_n import BestOfN
from postbc.finetune.dppo import Dppo
from postbc.finetune.dsrl import Dsrl, DsrlNoiseAliased
from postbc.finetune.learner import Learner
from postbc.policies.generative import GenerativePolicy

ALGORITHMS: dict[str, Callable[[GenerativePolicy, FinetuneConfig, int], Learner]] = {
    "dsrl": Dsrl,
    "dsrl_na": DsrlNoiseAliased,
    "best_of_n": BestOfN,
    "dppo": Dppo,
}


def build_learner(model: GenerativePolicy, config: FinetuneConfig, seed: int) -> Learner:
    """The finetuner that ``config.algorithm`` names, fresh."""
    return ALGORITHMS[config.algorithm](model, config, seed)
