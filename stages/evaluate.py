"""Stage evaluate: every policy at every step of its life, on held-out starts paired between methods; one video each."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from postbc.config import Config
from postbc.config.robot import SIMULATED
from postbc.errors import RenderingUnavailableError
from postbc.evaluation.coverage import compare, cover
from postbc.evaluation.lives import Candidate, evaluate_all
from postbc.evaluation.samples import action_samples
from postbc.evaluation.strip import SpreadStrip
from postbc.evaluation.video import film
from postbc.finetune.artifact import POLICY, env_steps
from postbc.policies.folder import load_policy
from postbc.policies.policy import Latent, Policy
from postbc.progress import track
from postbc.robots.environment import twin_env
from postbc.sims import get_task
from postbc.sims.rendering import choose_backend
from postbc.sims.starts import EVALUATION, VERSION, seeds
from postbc.sims.vector import ChunkEnvs, ChunkVector
from postbc.storage.atomic import atomic_folder, write_csv, write_json
from postbc.storage.manifest import fingerprint
from stages import paths
from stages.running import arguments, log, run


def candidates(config: Config) -> Iterator[Candidate]:
    """Every life of every method, on the simulator and, beside the unfinetuned policy, on the robot."""
    for method in config.methods:
        pretrained, in_sim = paths.PRETRAINED / method, paths.FINETUNED_SIM / method
        robot = paths.FINETUNED_ROBOT / method
        steered, cost = load_policy(in_sim / POLICY), env_steps(in_sim)
        yield Candidate("pretrained", method, load_policy(pretrained), 0)
        yield Candidate("pretrained_zero", method, load_policy(pretrained, Latent.ZERO), 0)
        yield Candidate("finetuned_sim", method, steered, cost)
        yield Candidate("pretrained_on_robot", method, load_policy(pretrained), 0, on_robot=True)
        yield Candidate("finetuned_sim_on_robot", method, steered, cost, on_robot=True)
        yield Candidate("finetuned_robot", method, load_policy(robot / POLICY), env_steps(robot), on_robot=True)


def environments(config: Config) -> tuple[ChunkEnvs, ChunkEnvs | None]:
    """The simulator, and the twin where the robot is one."""
    task, robot = config.task, config.finetune_robot.robot
    if robot.lead or robot.execute not in (None, task.chunk):
        log.warning("finetune_robot.robot.lead and execute are the robot's: the evaluation plays whole chunks")
    twin = ChunkEnvs.of(task, partial(twin_env, robot, task)) if robot.type == SIMULATED else None
    return ChunkEnvs.of(task), twin


def simulator(config: Config) -> dict[str, Any]:
    """What numbers must share to be compared: simulator, its versions, the list of starts."""
    return {**get_task(config.task.env).describe(config.task.options)["versions"], "starts": VERSION}


def fingerprints(config: Config) -> dict[str, dict[str, str]]:
    """Life → method → which policy that is: its numbers are no other's."""
    folders = {
        "pretrained": (paths.PRETRAINED, ""),
        "finetuned_sim": (paths.FINETUNED_SIM, POLICY),
        "finetuned_robot": (paths.FINETUNED_ROBOT, POLICY),
    }
    return {life: {m: fingerprint(at / m / part) for m in config.methods} for life, (at, part) in folders.items()}


def covering(config: Config) -> dict[str, Policy]:
    """The pretrained policies; a conditional one is asked to cover (scale 1)."""
    return {method: load_policy(paths.PRETRAINED / method, scale=1.0) for method in config.methods}


def coverage(policies: dict[str, Policy], vector: ChunkVector, starts: list[int], tries: int) -> dict[str, Any]:
    """What ``policies`` reach in several tries."""
    return compare({m: cover(policy, vector, starts, tries, f"coverage {m}") for m, policy in policies.items()})


def write_videos(
    config: Config, places: Sequence[ChunkEnvs | None], played: Sequence[Candidate], seed: int, target: Path
) -> None:
    """Film the episode of ``seed`` for every life; says why not where nothing can be rendered."""
    limit = min(config.evaluate.video_steps, config.task.max_steps)
    with atomic_folder(target) as building, ExitStack() as stack:
        sim, robot = (
            SpreadStrip(stack.enter_context(closing(envs.make_task())), paths.POSTERIOR, limit)
            if envs and limit
            else None
            for envs in places
        )
        filmed = [
            (candidate, env)
            for candidate in played
            if not candidate.life.endswith("_on_robot") and (env := robot if candidate.on_robot else sim)
        ]
        try:
            for candidate, env in track(filmed, "videos", len(filmed)):
                film(candidate.policy, env, seed, limit, building / f"{candidate.life}.{candidate.method}.mp4")
        except (RenderingUnavailableError, NotImplementedError) as error:
            why = str(error) or f"{config.task.env} has no render()."
            log.warning("no videos: %s", why)
            (building / "README.txt").write_text(f"No videos: {why}\n")


def main(config: Config, _: argparse.Namespace) -> None:
    choose_backend()
    starts = seeds(EVALUATION, 0, config.evaluate.episodes)
    workers = min(config.evaluate.workers, len(starts))
    places, played = environments(config), list(candidates(config))
    with ExitStack() as stack:
        sim, robot = (stack.enter_context(closing(envs.vector(workers))) if envs else None for envs in places)
        assert sim is not None  # noqa: S101 - narrows the type
        table: dict[str, Any] = dict(evaluate_all(played, sim, robot, starts))
        policies, settings = covering(config), config.evaluate
        if settings.coverage_starts:
            chosen = starts[: settings.coverage_starts]
            table["coverage"] = coverage(policies, sim, chosen, settings.coverage_tries)
    write_csv(paths.PLOTS / "actions.csv", action_samples(policies, paths.POSTERIOR))
    table |= {"simulator": simulator(config), "policies": fingerprints(config)}
    write_json(paths.METRICS / "evaluation.json", table)
    write_videos(config, places, played, starts[0], paths.VIDEOS)


if __name__ == "__main__":
    run(main, arguments(__doc__ or "", method=False))
