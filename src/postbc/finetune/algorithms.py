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


def build_learner(model: GenerativePolicy, config: FinetuneConfig, seed: int, dense: bool = False) -> Learner:
    """The finetuner that ``config.algorithm`` names, fresh; ``dense`` where the task pays at every step (up to 1).

    Success ends an episode, and such a reward with it: staying just short of it would be worth 1 / (1 − γ), were every step
    not to cost as much as it can pay.
    """
    learner = ALGORITHMS[config.algorithm](model, config, seed)
    if dense:
        learner.cost = 1.0
    return learner
