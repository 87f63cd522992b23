"""How fast a policy trains, loader included, and samples: against LeRobot's DiffusionPolicy with LeRobot's loader."""

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.posterior import product_rate, seconds
from benchmarks.record import write
from postbc.adam import AdamW
from postbc.config import Method, PretrainConfig
from postbc.demos.convert import View, convert
from postbc.demos.frames import Frames, load_frames
from postbc.demos.readers import find_sources
from postbc.policies.pretrain import build_model
from postbc.posterior.targets import Targets
from postbc.sims import get_task
from postbc.training import Ema

CHUNK, BATCH, BATCHES = 4, 256, (1, 16, 256)
CONFIG = PretrainConfig(hidden=512, layers=3)


def make_dataset(recordings: Path, folder: Path) -> Path:
    """The recordings as a LeRobotDataset."""
    task = get_task("lift")
    episodes = [episode for source in find_sources(recordings) for episode in source.episodes()]
    convert(episodes, len(episodes), folder / "dataset", View(task.fps, "Lift the cube.", task.observe))
    return folder / "dataset"


def ours(frames: Frames) -> tuple[Any, Callable[[], None]]:
    """Our policy, and a training step from drawing the batch to the moving average."""
    targets = Targets(frames, CHUNK, Method.BC)
    model = build_model(frames, targets, CONFIG)
    optimiser, ema = AdamW(model.parameters(), 1e-3, 1e-6, CONFIG.clip), Ema(model, CONFIG.ema)
    order, noise = torch.Generator(), torch.Generator()

    def step() -> None:
        index = torch.randint(len(frames), (BATCH,), generator=order)
        chunk, _ = targets.draw(index, noise)
        optimiser.minimise(model.loss(frames.rows(index), chunk, noise)[0])
        ema.update(CONFIG.steps)

    return model, step


def lerobots(folder: Path, wanted: int) -> tuple[Any, Callable[[], None], Callable[[], None]]:
    """LeRobot's policy of about ``wanted`` parameters; an epoch of its training with its loader, and a step without."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
    from lerobot.policies.factory import make_policy, make_pre_post_processors

    meta = LeRobotDataset("bench/lift", root=folder).meta
    candidates = [(width, 2 * width) for width in range(16, 256, 8)]

    def build(dims: tuple[int, int]) -> Any:
        form = {"n_obs_steps": 1, "horizon": CHUNK, "n_action_steps": CHUNK, "num_inference_steps": 8}
        config = DiffusionConfig(
            **form, down_dims=dims, noise_scheduler_type="DDIM", device="cpu", push_to_hub=False, drop_n_last_frames=0
        )
        return make_policy(config, ds_meta=meta)

    policy = min((build(dims) for dims in candidates), key=lambda p: abs(parameters(p) - wanted))
    deltas = {"action": [i / meta.fps for i in range(CHUNK)]}
    deltas |= {key: [0.0] for key in ("observation.state", "observation.environment_state")}
    data = LeRobotDataset("bench/lift", root=folder, delta_timestamps=deltas)
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    before, _ = make_pre_post_processors(policy.config, dataset_stats=meta.stats)
    optimiser = torch.optim.AdamW(policy.parameters(), 1e-4, fused=True)
    kept = before(next(iter(torch.utils.data.DataLoader(data, BATCH, shuffle=True))))

    def learn(batch: Any) -> None:
        loss, _ = policy.forward(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def epoch() -> None:  # whole: its first batch is waited for, later ones were fetched ahead
        for batch in loader:
            learn(before(batch))

    return policy, epoch, lambda: learn(kept)


def parameters(module: torch.nn.Module) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def sampling(model: Any, policy: Any, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds for a batch of chunks, 8 steps: ours, LeRobot's."""
    rows = {}
    for batch in BATCHES:
        obs, noise = torch.randn(batch, model.obs_dim), torch.randn(batch, model.latent_dim)
        state = {"observation.state": obs[:, None, :9], "observation.environment_state": obs[:, None, 9:]}
        with torch.inference_mode():
            mine = seconds(lambda o=obs, n=noise: model.sample(o, n), repeats)  # type: ignore[misc]
            theirs = seconds(lambda s=state: policy.diffusion.generate_actions(s), repeats)  # type: ignore[misc]
        rows[str(batch)] = {"ours_ms": 1e3 * mine, "lerobot_ms": 1e3 * theirs, "ratio": theirs / mine}
    return rows


def measure(recordings: Path, repeats: int) -> dict[str, Any]:
    """All numbers."""
    folder = make_dataset(recordings, Path(tempfile.mkdtemp()))
    frames = load_frames(folder)
    model, step = ours(frames)
    mine, rate = seconds(step, repeats), product_rate()
    policy, epoch, unloaded = lerobots(folder, parameters(model))
    alone = seconds(unloaded, repeats)  # before there are workers, which would fetch ahead meanwhile
    theirs = seconds(epoch, repeats, 1) * BATCH / len(frames)
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    floor = 6 * weights * BATCH / rate  # multiply-adds forward, and twice that backward
    return {
        "parameters": {"ours": parameters(model), "lerobot": parameters(policy)},
        "samples_per_second": {
            "ours": BATCH / mine,
            "lerobot": BATCH / theirs,
            "lerobot without loader": BATCH / alone,
        },
        "ratio": theirs / mine,
        "floor": {"step_ms": 1e3 * floor, "times_floor": mine / floor},
        "sampling": sampling(model.eval(), policy.eval(), repeats),
    }


def main() -> None:
    """Measure, print, write benchmarks/results/pretrain.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, default=Path("data/lift"))
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    begun = time.monotonic()
    numbers = measure(options.recordings, options.repeats)
    table = Table("chunks at once", "ours (ms)", "LeRobot (ms)", "ratio", header_style="bold")
    for batch, row in numbers["sampling"].items():
        table.add_row(batch, f"{row['ours_ms']:.2f}", f"{row['lerobot_ms']:.2f}", f"{row['ratio']:.1f}")
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in numbers["samples_per_second"].items())
    table.caption = f"training samples a second: {rates}; {numbers['ratio']:.1f} times; {numbers['floor']}"
    Console().print(table)
    Console().print(f"{write('pretrain', ('torch', 'lerobot'), numbers)} in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
