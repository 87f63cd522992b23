"""Stage finetune_robot: the same finetuner on a LeRobot robot, by default the simulated twin.

Nothing moves unless the robot is armed for this policy and these limits: a token from `postbc robot arm` or from the
approval form in Prefect. A simulated robot may arm itself where params.yaml says `arm: simulated`. Three processes work
together: this one acts, another one learns, a third one holds the robot.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import postbc
from postbc.config import Config
from postbc.config.robot import SIMULATED, RobotConfig
from postbc.errors import MismatchError
from postbc.finetune.artifact import POLICY, env_steps, save_finetuned
from postbc.finetune.driver import Arena, Row, check, finetune
from postbc.finetune.experience import Experience
from postbc.finetune.remote import RemoteLearner
from postbc.finetune.replay import refuse_mixed_rewards
from postbc.policies.folder import load_policy
from postbc.robots import arming
from postbc.robots.environment import RobotEnv, with_limits
from postbc.robots.guard import limits_fingerprint
from postbc.robots.lock import hold
from postbc.robots.recorder import Recorder
from postbc.robots.remote import RemoteRobot
from postbc.robots.safe import label
from postbc.robots.session import Pace, RobotVector
from postbc.sims import get_task
from postbc.sims.starts import ROBOT, seeds
from postbc.storage.atomic import read_json, write_csv, write_json
from postbc.storage.checkpoint import Checkpoints, identity
from postbc.storage.manifest import describe, fingerprint, sources
from stages import paths
from stages.running import arguments, log, run


def request(config: Config, robot: RobotConfig, method: str) -> arming.Request:
    """What an arming token must name: robot, policy, limits."""
    policy = fingerprint(paths.FINETUNED_SIM / method / POLICY)
    return arming.Request(robot=label(robot), policy=policy, limits=limits_fingerprint(robot, config.task.fps))


def environment(config: Config, robot: RobotConfig, body: RemoteRobot, method: str) -> RobotEnv:
    """The robot as the policy sees it, before anything is armed or connected.

    Raises MismatchError unless it observes what the policy reads, ConfigError where it would go on with other rewards.
    """
    refuse_mixed_rewards(config)
    model = load_policy(paths.FINETUNED_SIM / method / POLICY).model
    shape = model.shape
    env = RobotEnv(body, robot, config.task.fps, shape.features, shape.obs.pixels[1:] if shape.obs.pixels else None)
    seen = replace(env.shape, history=config.task.history)
    if seen != shape.obs:
        raise MismatchError(
            f"the robot observes {seen}, the policy reads {shape.obs}: see finetune_robot.robot in params.yaml."
        )
    known = model.action_normalizer
    low, high = ((known.centre + side * known.scale).numpy() for side in (-1, 1))
    for line in env.beyond(low, high):
        log.warning("%s: such an action will be refused, and end the session", line)
    return env


def session(config: Config, method: str) -> str:
    """What makes a session of robot time the same one."""
    settings, folder = config.finetune_robot.finetune, paths.FINETUNED_SIM / method
    # Another port, tighter limits or another person do not make another run: what was learned is gone on with.
    named = ("type", "state", "environment_state", "camera", "action")
    robot = {name: getattr(config.finetune_robot.robot, name) for name in named}
    if "use_degrees" in config.finetune_robot.robot.options:  # LeRobot's: what the numbers mean
        robot["use_degrees"] = config.finetune_robot.robot.options["use_degrees"]
    if robot["type"] == SIMULATED:  # its options are the physics, but for where it writes
        robot["options"] = {k: v for k, v in config.finetune_robot.robot.options.items() if k != "motor_log"}
    parts = (
        asdict(config.task), robot, config.finetune_robot.replay, asdict(settings), config.seed, method,
        fingerprint(folder / POLICY),
    )  # fmt: skip
    return identity(*parts)


def unfinished(config: Config, method: str) -> tuple[Checkpoints, Experience]:
    """What is kept of a session until it is over."""
    path, this = paths.checkpoint("finetune_robot", method), session(config, method)
    return Checkpoints(path, this, precious=True), Experience(path.with_suffix(f"{path.suffix}.experience"), this)


def arena(config: Config, method: str, vector: RobotVector) -> Arena:
    """One robot; no looks in between, because they would cost robot time."""
    checkpoints, experience = unfinished(config, method)
    return Arena(
        vector=vector,
        starts=seeds(ROBOT, config.seed, config.finetune_robot.finetune.env_steps + 2),
        checkpoints=checkpoints,
        restorable=False,
        journal=paths.journal("finetune_robot", method),
        experience=experience,
    )


@dataclass(frozen=True)
class Played:
    """That a session is over, beside its result: DVC may fail to record it, and robot time is not had twice.

    A twin's is played again where the code is another; of hardware nobody asks for it again for that.
    """

    path: Path
    session: str
    result: Path

    @classmethod
    def of(cls, config: Config, method: str) -> "Played":
        """The session that ``config`` describes."""
        simulated = config.finetune_robot.robot.type == SIMULATED
        code = sources(Path(postbc.__file__).parent, Path(__file__).parent) if simulated else ""
        path = paths.checkpoint("finetune_robot", method).with_suffix(f".{method}.played.json")
        return cls(path, identity(session(config, method), code), paths.FINETUNED_ROBOT / method)

    def rows(self) -> list[Row] | None:
        """Its learning curve; None where it is not over, or its result is not there as it was."""
        kept = read_json(self.path) if self.path.is_file() else {}
        if kept.get("session") != self.session or kept["result"] != identity(describe(self.result)):
            return None
        return [dict(row) for row in kept["rows"]]

    def keep(self, rows: list[Row]) -> None:
        """It is over."""
        kept = [list(row.items()) for row in rows]  # columns stay in order
        write_json(self.path, {"session": self.session, "result": identity(describe(self.result)), "rows": kept})


def settle(learner: RemoteLearner, last: Row) -> None:
    """Wait for what is learned still, and put its metrics into the ``last`` row. Raises TrainingDivergedError."""
    if metrics := learner.settle():
        check(metrics, learner.config, last["env_steps"])
        last |= metrics


def play(config: Config, method: str, stack: ExitStack, check_only: bool) -> list[Row]:
    """The session; its learning curve. ``check_only`` connects nothing, and gives none."""
    task, robot = config.task, with_limits(config.finetune_robot.robot, config.task)
    wanted = request(config, robot, method)
    folder, pace = paths.FINETUNED_SIM / method, Pace.of(robot, task)
    # Looking at held-out starts would cost robot time; the curve shows the training episodes instead.
    settings = replace(config.finetune_robot.finetune, evaluate_every=config.finetune_robot.finetune.checkpoint_every)
    body = RemoteRobot(robot, task)
    stack.callback(body.stop, "the stage is over")
    env = environment(config, robot, body, method)
    if check_only:
        clock = "the wall's clock" if body.waits else "a simulated clock"
        sys.stdout.write(f"{robot.type} fits the policy of {method}; nothing was connected.\n{env.describe()}\n")
        sys.stdout.write(f"  {task.fps} Hz on {clock}, {pace}\n")
        return []
    dense = get_task(task.env).dense  # the critics have seen such rewards in simulation
    learner = RemoteLearner(folder, settings, config.seed, body.waits, config.finetune_robot.replay, dense)
    stack.callback(learner.close)
    learner.settle()  # both sides have read the policy now
    if request(config, robot, method) != wanted:
        raise MismatchError("the policy was exchanged while it was read; run it again.")
    # Before the permission is used up: what a killed session left is stored now.
    env.recorder = Recorder(paths.recordings(task.name, method), task.fps, {"method": method})
    stack.callback(env.recorder.close)
    armed = body.connect(wanted, arming.FOLDER)
    log.info("%s armed by %s", armed.robot, armed.operator)
    env.recorder.facts |= {"robot": armed.robot, "operator": armed.operator, "policy": armed.policy}
    vector = RobotVector(env, pace, task.history, settings.discount)
    stack.callback(vector.close)
    rows = finetune(learner, arena(config, method, vector))
    vector.close()  # the robot rests before the last is learned
    settle(learner, rows[-1])
    timing = env.clock.timing.summary()
    if env.clock.waits:
        log.info("control at %d Hz: %s", task.fps, timing)
    total = env_steps(folder) + rows[-1]["env_steps"]
    save_finetuned(learner, total, paths.FINETUNED_ROBOT / method, {"timing": timing} if env.clock.waits else None)
    return rows


def main(config: Config, options: argparse.Namespace) -> None:
    method = options.method
    if options.request:
        wanted = request(config, with_limits(config.finetune_robot.robot, config.task), method)
        sys.stdout.write(json.dumps(asdict(wanted)) + "\n")
        return
    played = Played.of(config, method)
    with ExitStack() as stack:
        hold(paths.lock("finetune_robot", method), f"the policy of {method}")
        rows = None if options.check else played.rows()
        over = rows is not None
        if rows is None:
            rows = play(config, method, stack, options.check)
    if options.check:
        return
    write_csv(paths.PLOTS / f"finetune_robot.{method}.csv", rows)
    if over:
        again = f"`rm -r {played.result}` and `dvc repro -f -s finetune_robot@{method}`"
        log.info("this session is over, and nothing has moved; %s play it again", again)
        return
    played.keep(rows)
    for kept in unfinished(config, method):
        kept.clear()


if __name__ == "__main__":
    parser = arguments(__doc__ or "", method=True)
    parser.add_argument("--request", action="store_true", help="print what an arming token must name, and stop")
    parser.add_argument("--check", action="store_true", help="say how robot, policy and limits fit, and stop")
    run(main, parser, attended=True)
