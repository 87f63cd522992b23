"""Pretraining: behavioural cloning, on actions to which posterior noise may be added (PostBC, arXiv 2512.16911, alg. 1).

    ã = a + α w,  w ~ N(0, cov(s)) drawn afresh for every use;   minimise the policy's ordinary loss on (s, ã)

That one line is the method: without factors the same function trains BC. Frames, diffusion noise and posterior noise come
from generators of their own, so BC and PostBC of one seed see the same batches in the same order.
"""

import torch
from torch import Tensor

from postbc.config import PretrainConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.policies.diffusion import DiffusionPolicy, DiffusionShape
from postbc.policies.policy import Latent, Policy
from postbc.posterior.factors import Factors
from postbc.storage.checkpoint import Checkpoints
from postbc.training import Ema, Generators, Metrics, Run, Schedule, train


def build_diffusion(frames: Frames, horizon: int, config: PretrainConfig) -> DiffusionPolicy:
    """A fresh diffusion policy whose normalisers fit ``frames``."""
    shape = DiffusionShape(
        state_dim=frames.state_dim,
        environment_dim=frames.obs.shape[1] - frames.state_dim,
        action_dim=frames.action.shape[1],
        chunk=horizon,
        hidden=config.hidden,
        layers=config.layers,
        denoising_steps=config.denoising_steps,
        inference_steps=config.inference_steps,
    )
    policy = DiffusionPolicy(shape)
    policy.obs_normalizer, policy.action_normalizer = MinMax.of(frames.obs), MinMax.of(frames.action)
    return policy.to(frames.obs.device)


def pretrain(
    frames: Frames,
    factors: Factors | None,
    horizon: int,
    config: PretrainConfig,
    run: tuple[int, Checkpoints],
) -> tuple[Policy, list[Metrics]]:
    """Train a policy on chunks of ``horizon`` actions; ``run`` is (seed, checkpoints). Returns it and the loss curve."""
    seed, checkpoints = run
    generators = Generators(seed, ("weights", "order", "diffusion", "posterior"))
    torch.manual_seed(generators["weights"].initial_seed())
    diffusion = build_diffusion(frames, horizon, config)

    def loss() -> tuple[Tensor, Metrics]:
        index = torch.randint(len(frames), (config.batch,), generator=generators["order"]).to(frames.obs.device)
        chunk = frames.chunks(index, horizon)
        if factors is not None:
            noise = factors.sample(index, generators["posterior"])
            chunk = chunk + config.alpha * noise.unflatten(1, (horizon, -1))
        return diffusion.loss(frames.obs[index], chunk, generators["diffusion"])

    schedule = Schedule(config.steps, config.learning_rate, config.weight_decay)
    label = "pretrain bc" if factors is None else "pretrain postbc"
    rows = train(Run(label, schedule, generators, checkpoints), diffusion, loss, Ema(diffusion, config.ema))
    return Policy(diffusion.cpu().eval(), Latent.SAMPLE), rows
