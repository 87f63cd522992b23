"""Stage posterior: what the demonstrations leave open, as posterior noise for every demonstrated frame, and its calibration."""

import argparse
from dataclasses import asdict

from postbc.compute import Compute
from postbc.config import Config
from postbc.demos.frames import Frames, load_frames
from postbc.posterior.artifact import write_posterior
from postbc.posterior.calibration import Calibration, calibrate, can_hold_out, hold_out
from postbc.posterior.encoder import encoder_checkpoints
from postbc.posterior.models import fit_posterior
from postbc.storage.atomic import write_json
from postbc.storage.checkpoint import Checkpoints, identity
from stages import paths
from stages.running import arguments, log, run

# Noise as large as the actions' own spread is an ensemble that extrapolates, not a posterior. Half as large it can be right:
# on the demonstrations that come with the project held-out episodes say so (docs/results.md, calibration).
LARGE_SPREAD = 1.0


def calibration(config: Config, frames: Frames, checkpoints: Checkpoints) -> Calibration | None:
    """Held-out episodes against the posterior; None where params.yaml asks for none or there are too few episodes."""
    folds = config.posterior.folds
    if not can_hold_out(frames.episodes, folds):
        if folds:
            log.info("no calibration: %d demonstrations in %d folds leave fewer than two", frames.episodes, folds)
        return None
    found = calibrate(hold_out(frames, config.task.chunk, config.posterior, config.seed, checkpoints), config.seed)
    low, high = found.alpha_low, found.alpha_high
    log.info("alpha: auto would be %.2f (%.2f to %.2f): %s", found.alpha, low, high, found.reason)
    return found


def main(config: Config, _: argparse.Namespace) -> None:
    frames, horizon = (
        load_frames(paths.DATASET, config.task.history, config.task.image_memory).to(Compute().device),
        config.task.chunk,
    )
    run_identity = identity(asdict(config.posterior), (horizon, config.task.history), config.seed, frames.fingerprint)
    checkpoints = Checkpoints(paths.checkpoint("posterior"), run_identity)
    if frames.episodes == 1 and config.posterior.bootstrap == "trajectory":
        log.warning(
            "one demonstration, resampled, is itself: the posterior is of how networks begin; see posterior.bootstrap"
        )
    model, rows = fit_posterior(frames, horizon, config.posterior, config.seed, checkpoints)
    folds = Checkpoints(paths.checkpoint("calibration"), run_identity)
    found = calibration(config, frames, folds)
    summary = write_posterior(model, frames, (horizon, config.posterior), found, paths.POSTERIOR)
    evidence = {"alpha_auto": found.alpha, "kappa": found.kappa} if found else {}
    write_json(paths.METRICS / "posterior.json", {**summary, **evidence, "loss": rows[-1]["loss"]})
    checkpoints.clear()
    encoder_checkpoints(checkpoints).clear()
    folds.clear()
    log.info("posterior noise: %.0f %% of the actions' spread, rank %.1f", 100 * summary["spread"], summary["rank"])
    if summary["spread"] > LARGE_SPREAD:
        log.warning("that is large: consider fewer posterior.steps, more demonstrations, or a smaller pretrain.alpha")


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
