"""Stage pretrain: a diffusion policy by behavioural cloning (bc) or posterior behavioural cloning (postbc)."""

import argparse
from dataclasses import asdict

from postbc.config import Config
from postbc.demos.frames import load_frames
from postbc.policies.folder import save_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.factors import load_factors
from postbc.storage.atomic import write_csv
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.storage.manifest import fingerprint
from stages import paths
from stages.running import arguments, run


def main(config: Config, options: argparse.Namespace) -> None:
    method = options.method
    frames = load_frames(paths.DATASET)
    factors = load_factors(paths.POSTERIOR, frames) if method == "postbc" else None
    inputs = (frames.fingerprint, fingerprint(paths.POSTERIOR) if factors else None)
    run_identity = identity(asdict(config.pretrain), config.task.chunk, config.seed, method, inputs)
    checkpoints = Checkpoints(paths.checkpoint("pretrain", method), run_identity)
    policy, rows = pretrain(frames, factors, config.task.chunk, config.pretrain, (config.seed, checkpoints))
    save_policy(policy, paths.PRETRAINED / method)
    write_csv(paths.PLOTS / f"pretrain.{method}.csv", rows)
    checkpoints.clear()


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=True))
