"""Pretraining: any generative policy on any method's targets, by one loop.

Frames, the policy's own noise and the posterior noise come from generators of their own, so that all methods of one seed
start from the same weights (but the conditional one, which has an input more) and see the same frames in the same order
with the same noise.
"""

import math

import torch
from jaxtyping import Int64
from torch import Tensor

from postbc.compute import Compute
from postbc.config import Method, PretrainConfig
from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.observer import shifted
from postbc.policies.folder import KINDS
from postbc.policies.generative import GenerativePolicy, PolicyShape
from postbc.policies.policy import Latent, Policy
from postbc.posterior.targets import Targets
from postbc.progress import log
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.journal import Journal
from postbc.training import Ema, Generators, Metrics, Run, Schedule, train


def build_model(frames: Frames, targets: Targets, config: PretrainConfig) -> GenerativePolicy:
    """A fresh policy whose normalisers fit ``frames``."""
    shape = PolicyShape(
        obs=frames.shape,
        action_dim=frames.action.shape[1],
        chunk=targets.horizon,
        hidden=config.hidden,
        layers=config.layers,
        denoising_steps=config.denoising_steps,
        inference_steps=config.inference_steps,
        spacing=config.spacing,
        kind=config.policy,
        conditional=targets.method is Method.POSTBC_CONDITIONAL,
        features=frames.features,
    )
    model = KINDS[shape.kind](shape)
    model.observer.fit(frames)
    model.action_normalizer = MinMax.of(frames.action)
    return model.to(frames.obs.device)


def split(frames: Frames, share: float, seed: int) -> tuple[Int64[Tensor, "N"], Int64[Tensor, "M"]]:
    """Frames to train on, and at most 2,048 of the episodes held out; at least one episode is kept for training."""
    held_out = min(math.ceil(share * frames.episodes), frames.episodes - 1)
    order = torch.randperm(frames.episodes, generator=torch.Generator().manual_seed(seed))
    unseen = torch.isin(frames.episode.cpu(), order[:held_out])
    chosen = torch.where(unseen)[0]
    return torch.where(~unseen)[0], chosen[:: max(1, math.ceil(len(chosen) / 2048))].to(frames.obs.device)


def pretrain(
    targets: Targets,
    config: PretrainConfig,
    seed: int,
    checkpoints: Checkpoints,
    compute: Compute | None = None,
    journal: Journal | None = None,
) -> tuple[Policy, list[Metrics]]:
    """Train a policy to produce ``targets``; returns it, on the CPU, and the loss curve."""
    compute = compute or Compute()
    frames, names = targets.frames, ("weights", "order", "policy", "posterior", "shift")
    generators = Generators(seed, names, compute.rank)
    torch.manual_seed(generators.seed("weights"))
    model = build_model(frames, targets, config)
    ema = Ema(model, config.ema)

    seen, unseen = split(frames, config.validation, seed)

    def loss() -> tuple[Tensor, Metrics]:
        batch = compute.share(config.batch)
        index = seen[torch.randint(len(seen), (batch,), generator=generators["order"])].to(frames.obs.device)
        chunk, scale = targets.draw(index, generators["posterior"])
        rows = shifted(frames.rows(index), frames.shape, generators["shift"])
        return model.loss(rows, chunk, generators["policy"], scale)

    @torch.no_grad()
    def validate() -> Metrics:
        if not len(unseen):
            return {}
        chunk = frames.chunks(unseen, targets.horizon)  # as demonstrated, whatever the method
        with ema.in_force():  # of what a run that ended here would save
            lost = model.loss(frames.rows(unseen), chunk, torch.Generator().manual_seed(seed))[0]
        return {"validation": float(lost)}

    passes = config.steps * config.batch / len(seen)
    log.info("pretrain %s: %.0f passes over %d frames", targets.method, passes, len(seen))
    schedule = Schedule(config.steps, config.learning_rate, config.weight_decay, clip=config.clip)
    run = Run(f"pretrain {targets.method}", schedule, generators, checkpoints, compute, journal or Journal())
    rows = train(run, model, loss, ema, validate)
    return Policy(model.cpu().eval(), Latent.SAMPLE), rows
