"""Stage finetune_robot: the same finetuner on a LeRobot robot, by default the simulated twin.

Nothing moves unless the robot is armed for this policy and these limits: a token from `postbc robot arm` or from the
approval form in Prefect. A simulated robot may arm itself where params.yaml says `arm: simulated`.
"""

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import partial

from postbc.config import Config
from postbc.errors import MismatchError, NotArmedError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import POLICY, continue_from, env_steps, save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.observation import ObsShape
from postbc.policies.folder import load_policy
from postbc.robots import arming
from postbc.robots.environment import is_simulated, make_robot, robot_env
from postbc.robots.guard import limits_fingerprint
from postbc.robots.recorder import Recorder
from postbc.sims.starts import ROBOT, seeds
from postbc.sims.vector import ChunkEnvs
from postbc.storage.atomic import write_csv
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.storage.manifest import fingerprint
from stages import paths
from stages.running import arguments, log, run


def request(config: Config, method: str) -> arming.Request:
    """What an arming token must name: robot, policy, limits."""
    robot = config.finetune_robot.robot
    policy = fingerprint(paths.FINETUNED_SIM / method / POLICY)
    return arming.Request(robot=robot.type, policy=policy, limits=limits_fingerprint(robot.guard))


def arm(config: Config, method: str) -> arming.Arming:
    """Use up an arming token; a simulated robot issues its own when there is none. Raises NotArmedError otherwise."""
    wanted, robot = request(config, method), config.finetune_robot.robot
    try:
        return arming.consume(arming.FOLDER, wanted)
    except NotArmedError:
        if robot.arm != "simulated" or not is_simulated(make_robot(robot, config.task)):
            raise
    arming.issue(arming.FOLDER, wanted, operator="simulated")
    return arming.consume(arming.FOLDER, wanted)


def require_same_view(config: Config, reads: ObsShape) -> None:
    """Raise MismatchError unless the robot observes what the policy reads; before anything is armed or connected."""
    seen = replace(robot_env(config.finetune_robot.robot, config.task).shape, history=config.task.history)
    if seen != reads:
        raise MismatchError(
            f"the robot observes {seen}, the policy reads {reads}: see finetune_robot.robot in params.yaml."
        )


def arena(config: Config, method: str, recorder: Recorder) -> Arena:
    """One robot, every step of it recorded; no looks in between, because they would cost robot time."""
    task, settings = config.task, config.finetune_robot.finetune
    make = partial(robot_env, config.finetune_robot.robot, task, recorder)
    envs = ChunkEnvs(make, task.chunk, task.max_steps, history=task.history)
    folder = paths.FINETUNED_SIM / method
    parts = (asdict(task), asdict(config.finetune_robot), config.seed, method, fingerprint(folder / POLICY))
    checkpoints = Checkpoints(paths.checkpoint("finetune_robot", method), identity(*parts))
    starts = seeds(ROBOT, config.seed, settings.env_steps + 2)
    return Arena(
        envs.vector(1, settings.discount), starts, checkpoints, None, False, paths.journal("finetune_robot", method)
    )


def main(config: Config, options: argparse.Namespace) -> None:
    if options.request:
        sys.stdout.write(json.dumps(asdict(request(config, options.method))) + "\n")
        return
    method, folder = options.method, paths.FINETUNED_SIM / options.method
    model = load_policy(folder / POLICY).model
    require_same_view(config, model.shape.obs)
    armed = arm(config, method)
    log.info("%s armed by %s", armed.robot, armed.operator)
    # Looking at held-out starts would cost robot time; the curve shows the training episodes instead.
    settings = replace(config.finetune_robot.finetune, evaluate_every=config.finetune_robot.finetune.checkpoint_every)
    learner = build_learner(model, settings, config.seed)
    continue_from(learner, folder)
    facts = {"robot": armed.robot, "operator": armed.operator, "policy": armed.policy, "method": method}
    recorder = Recorder(paths.RECORDINGS / method, config.task.fps, facts)
    where = arena(config, method, recorder)
    try:
        rows = finetune(learner, where)
    finally:
        where.vector.close()  # disconnects the robot
        recorder.close()
    total = env_steps(folder) + rows[-1]["env_steps"]
    save_finetuned(learner, total, paths.FINETUNED_ROBOT / method)
    write_csv(paths.PLOTS / f"finetune_robot.{method}.csv", rows)
    where.checkpoints.clear()


if __name__ == "__main__":
    parser = arguments(__doc__ or "", method=True)
    parser.add_argument("--request", action="store_true", help="print what an arming token must name, and stop")
    run(main, parser)
