"""Pretraining: any generative policy on any method's targets, by one loop.

Frames, the policy's own noise and the posterior noise come from generators of their own, so that all methods of one seed
start from the same weights and see the same frames in the same order with the same noise.
"""

import torch
from torch import Tensor

from postbc.config import Method, PretrainConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.policies.folder import KINDS
from postbc.policies.generative import GenerativePolicy, PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.posterior.targets import Targets
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Ema, Generators, Metrics, Run, Schedule, train


def build_model(frames: Frames, targets: Targets, config: PretrainConfig) -> GenerativePolicy:
    """A fresh policy whose normalisers fit ``frames``."""
    shape = PolicyShape(
        state_dim=frames.state_dim,
        environment_dim=frames.obs.shape[1] - frames.state_dim,
        action_dim=frames.action.shape[1],
        chunk=targets.horizon,
        hidden=config.hidden,
        layers=config.layers,
        denoising_steps=config.denoising_steps,
        inference_steps=config.inference_steps,
        kind=config.policy,
        conditional=targets.method is Method.POSTBC_CONDITIONAL,
    )
    model = KINDS[shape.kind](shape)
    model.obs_normalizer, model.action_normalizer = MinMax.of(frames.obs), MinMax.of(frames.action)
    return model.to(frames.obs.device)


def pretrain(
    targets: Targets, config: PretrainConfig, seed: int, checkpoints: Checkpoints
) -> tuple[Policy, list[Metrics]]:
    """Train a policy to produce ``targets``; returns it, on the CPU, and the loss curve."""
    frames, generators = targets.frames, Generators(seed, ("weights", "order", "policy", "posterior"))
    torch.manual_seed(generators["weights"].initial_seed())
    model = build_model(frames, targets, config)

    def loss() -> tuple[Tensor, Metrics]:
        index = torch.randint(len(frames), (config.batch,), generator=generators["order"]).to(frames.obs.device)
        chunk, scale = targets.draw(index, generators["posterior"])
        return model.loss(frames.obs[index], chunk, generators["policy"], scale)

    schedule = Schedule(config.steps, config.learning_rate, config.weight_decay)
    run = Run(f"pretrain {targets.method}", schedule, generators, checkpoints)
    rows = train(run, model, loss, Ema(model, config.ema))
    return Policy(model.cpu().eval(), Latent.SAMPLE), rows
