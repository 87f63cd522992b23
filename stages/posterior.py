"""Stage posterior: an ensemble of bootstrapped regressors, and the posterior noise of every demonstrated frame."""

import argparse
from dataclasses import asdict

from postbc.config import Config
from postbc.demos.frames import load_frames
from postbc.posterior.artifact import write_posterior
from postbc.posterior.ensemble import fit_ensemble
from postbc.storage.atomic import write_json
from postbc.storage.checkpoint import Checkpoints, identity
from stages import paths
from stages.running import arguments, log, run

# Noise larger than this share of the actions' own spread is an ensemble that extrapolates, not a posterior.
LARGE_SPREAD = 0.5


def main(config: Config, _: argparse.Namespace) -> None:
    frames = load_frames(paths.DATASET)
    run_identity = identity(asdict(config.posterior), config.task.chunk, config.seed, frames.fingerprint)
    checkpoints = Checkpoints(paths.checkpoint("posterior"), run_identity)
    ensemble, rows = fit_ensemble(frames, config.task.chunk, config.posterior, config.seed, checkpoints)
    summary = write_posterior(ensemble, frames, config.task.chunk, paths.POSTERIOR)
    write_json(paths.METRICS / "posterior.json", {**summary, "loss": rows[-1]["loss"]})
    checkpoints.clear()
    log.info("posterior noise: %.0f %% of the actions' spread, rank %.1f", 100 * summary["spread"], summary["rank"])
    if summary["spread"] > LARGE_SPREAD:
        log.warning("that is large: consider fewer posterior.steps, more demonstrations, or a smaller pretrain.alpha")


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
