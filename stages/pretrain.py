"""Stage pretrain: a generative policy on one method's targets: behavioural cloning, or with posterior noise."""

import argparse
import sys
from dataclasses import asdict

import torch

from postbc.compute import Compute, spread
from postbc.config import Config, Method
from postbc.demos.frames import load_frames
from postbc.policies.folder import save_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.artifact import calibrated_alpha
from postbc.posterior.factors import load_factors
from postbc.posterior.targets import Targets, matched_sigma, size_of
from postbc.storage.atomic import write_csv
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.storage.manifest import fingerprint
from stages import paths
from stages.running import arguments, log, run


def targets(config: Config, method: Method, device: torch.device) -> Targets:
    """What ``method`` imitates, at the size that params.yaml or the calibration says."""
    frames, horizon = (
        load_frames(paths.DATASET, config.task.history, config.task.image_memory).to(device),
        config.task.chunk,
    )
    if method is Method.BC:
        return Targets(frames, horizon, method)
    factors, (calibrated, reason) = load_factors(paths.POSTERIOR, frames), calibrated_alpha(paths.POSTERIOR)
    size = size_of(method, config.pretrain, matched_sigma(factors, frames), calibrated)
    log.info("%s: noise of size %.3f%s", method, size, f" ({reason})" if config.pretrain.alpha == "auto" else "")
    return Targets(frames, horizon, method, size, factors, config.pretrain.share)


def main(config: Config, options: argparse.Namespace) -> None:
    method = Method(options.method)
    spread(config.pretrain.processes, "stages.pretrain", sys.argv[1:])
    compute = Compute(config.pretrain.precision)
    wanted = targets(config, method, compute.device)
    inputs = (wanted.frames.fingerprint, None if method is Method.BC else fingerprint(paths.POSTERIOR))
    sizes = (config.task.chunk, config.task.history, compute.count)
    run_identity = identity(asdict(config.pretrain), sizes, config.seed, method, inputs)
    checkpoints = Checkpoints(paths.checkpoint("pretrain", method), run_identity)
    policy, rows = pretrain(
        wanted, config.pretrain, config.seed, checkpoints, compute, paths.journal("pretrain", method)
    )
    if compute.main:
        save_policy(policy, paths.PRETRAINED / method)
        write_csv(paths.PLOTS / f"pretrain.{method}.csv", rows)
        checkpoints.clear()
    compute.end()


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=True))
