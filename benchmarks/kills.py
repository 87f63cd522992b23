"""What reaches the motors when processes of a robot session are killed at random moments: `make bench-kills`.

Every trial is a session on the wall's clock: a twin whose process keeps a record of every command, a learning process and the
control process, run by another one. One of them is killed, stopped or interrupted after a random time. Then the record must
hold finite commands within limits and steps only, end with the stop, and soon; no process may be left, and at most the last
step may be missing in the recording. A machine that stands still for longer than the heartbeat ends a session before anything
is done to it: its record is judged likewise, and the trial is run again. Processes are forked from one that has imported
everything, so that a trial takes a second; `tests/robots/test_stage.py` kills the stage as it really starts.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

import postbc.robots.twin
from benchmarks import record
from postbc import processes
from postbc.config import FinetuneConfig, TaskConfig
from postbc.config.robot import GuardConfig, RobotConfig
from postbc.demos.store import listed_segments, read_store
from postbc.errors import PostbcError
from postbc.finetune import remote as learning
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.experience import Experience
from postbc.finetune.remote import RemoteLearner
from postbc.policies.diffusion import DiffusionPolicy
from postbc.policies.generative import PolicyShape
from postbc.robots import arming, keeper
from postbc.robots.environment import RobotEnv
from postbc.robots.guard import limits_fingerprint
from postbc.robots.recorder import Recorder, read_journal
from postbc.robots.remote import RemoteRobot
from postbc.robots.session import Pace, RobotVector
from postbc.sims import get_task
from postbc.storage.checkpoint import Checkpoints

TASK = TaskConfig(name="reach", env="reach", fps=50, max_steps=40, chunk=4)
GUARD = GuardConfig([-1.0, -1.0], [1.0, 1.0], [0.5, 0.5], heartbeat=0.2)
ROBOT = RobotConfig(guard=GUARD, arm="simulated", clock="wall", lead=1)
FINETUNE = FinetuneConfig(
    env_steps=100_000, initial_steps=0, envs=1, batch=32, hidden=32, layers=1, evaluate_every=0, checkpoint_every=60
)
SERVERS: dict[str, Callable[[Connection], None]] = {keeper.__name__: keeper.serve, learning.MODULE: learning.serve}
AWAY = 10.0  # seconds in which all processes end
STARTED = 60  # bytes of record that say that it moves
AGAIN = 9  # sessions of a trial at most
SLACK = 0.15  # seconds on top of the heartbeat, for a machine with other work; --slack
HOW = {  # which process, and the signal that it gets
    "control killed": ("control", signal.SIGKILL),
    "control hangs": ("control", signal.SIGSTOP),
    "control interrupted": ("control", signal.SIGINT),
    "parent killed": ("parent", signal.SIGKILL),
    "robot's process killed": ("keeper", signal.SIGKILL),
    "robot's process ended": ("keeper", signal.SIGTERM),
    "learner killed": ("learner", signal.SIGKILL),
}


class _Forked:
    """A process that was forked, as far as :class:`postbc.processes.Child` needs subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.status = status if pid else None
        return self.status

    def wait(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked", timeout)
            time.sleep(0.005)

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fork(work: Callable[[], None], close: tuple[int, ...] = ()) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for number in close:
            os.close(number)
        work()
        status = 0
    except (SystemExit, KeyboardInterrupt):
        status = 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class ForkedChild(processes.Child):
    """A serving process without a start of its own."""

    folder: Path
    inherited: tuple[int, ...] = ()  # pipes to others, which a process that is started does not get

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            processes.die_with_parent()
            with Connection(theirs.detach()) as pipe, suppress(EOFError, OSError):
                SERVERS[module](pipe)

        self.process: Any = _Forked(_fork(serve, (ours.fileno(), *self.inherited)))
        theirs.close()
        ForkedChild.inherited += (ours.fileno(),)
        self.pipe = Connection(ours.detach())
        name = "keeper" if module == keeper.__name__ else "learner"
        (self.folder / f"{name}.pid").write_text(str(self.process.pid))


def policy(folder: Path) -> None:
    """A finetuned folder of a policy that moves about."""
    torch.manual_seed(0)
    shape = PolicyShape(get_task("reach").make().shape, 2, TASK.chunk, 16, 1, 10, 2)
    save_finetuned(build_learner(DiffusionPolicy(shape).eval(), FINETUNE, 0), 0, folder)


def session(folder: Path, finetuned: Path) -> None:
    """What the stage does, without DVC and Hydra."""
    from postbc.processes import die_with_parent

    die_with_parent()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)
    (folder / "control.pid").write_text(str(os.getpid()))
    ForkedChild.folder = folder
    robot = replace(ROBOT, options={"motor_log": str(folder / "motors")})
    learning.Child = ForkedChild  # type: ignore[attr-defined]
    body = RemoteRobot(robot, TASK, ForkedChild)
    env = RobotEnv(body, robot, TASK.fps)
    learner = RemoteLearner(finetuned, FINETUNE, 0, body.waits)
    body.connect(arming.Request(robot.type, "a" * 64, limits_fingerprint(robot, TASK.fps)), folder / "arming")
    env.recorder = Recorder(folder / "store", TASK.fps, {"robot": "twin"})
    vector = RobotVector(env, Pace.of(robot, TASK), 1, FINETUNE.discount)
    checkpoints, experience = Checkpoints(folder / "c", "x"), Experience(folder / "experience", "x")
    where = Arena(vector, list(range(100_000)), checkpoints, restorable=False, experience=experience)
    try:
        finetune(learner, where)
    except PostbcError as error:
        (folder / "said").write_text(str(error))
    finally:
        vector.close()
        learner.close()
        env.recorder.close()


@dataclass
class Trial:
    """What was found: nothing is right."""

    how: str
    wrong: list[str]
    commands: int = 0
    after: float = 0.0  # seconds from the signal to the last command
    lost: int = 0  # steps that were commanded and not recorded
    resting: bool = False  # whether it hung where nothing moved, so that nothing was to be stopped
    late: bool = False  # whether the session had ended by its own heartbeat, so that nothing was done to it


def _alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _log(folder: Path) -> list[tuple[float, Any]]:
    lines = (folder / "motors").read_bytes().split(b"\n")[:-1]
    return [(when, what) for when, what in map(json.loads, lines)]


def _judge(log: list[tuple[float, Any]]) -> Iterator[str]:
    """What is wrong with what reached the motors."""
    last: tuple[float, np.ndarray] | None = None  # of this episode
    for at, what in log:
        if isinstance(what, str):
            last = None
            continue
        action = np.array(what)
        if not np.isfinite(action).all() or (action < GUARD.low).any() or (action > GUARD.high).any():
            yield f"command {what}"
        if last is not None and (np.abs(action - last[1]) > np.array(GUARD.max_step) + 1e-6).any():
            yield f"a step from {last[1]} to {what}"
        if last is not None and at - last[0] > GUARD.heartbeat + SLACK:
            yield f"a command {at - last[0]:.3f} s after the last one"
        last = at, action
    stops = [i for i, (_, what) in enumerate(log) if what == "stop"]
    if stops and stops[0] != len(log) - 1:
        yield f"{len(log) - 1 - stops[0]} entries after the stop"


def _recorded(folder: Path) -> int:
    store = folder / "store"
    stored = sum(len(episode) for episode in read_store(store)) if listed_segments(store) else 0
    return stored + sum(len(read_journal(path)[1]) for path in store.glob("*.jsonl"))


def _hit(pids: dict[str, int], how: str) -> float | None:
    """Do it; when, or None where the process has ended."""
    (victim, number), when = HOW[how], time.monotonic()
    if not _alive(pids[victim]):  # one that nobody has waited for can still be sent signals
        return None
    try:
        os.kill(pids[victim], number)
    except ProcessLookupError:
        return None
    if number == signal.SIGSTOP:
        time.sleep(GUARD.heartbeat + 2 * SLACK)
        with suppress(ProcessLookupError):
            os.kill(pids[victim], signal.SIGCONT)  # what it wanted to send comes too late
    return when


def _late(folder: Path) -> Iterator[str]:
    """What is wrong with a session that ended by itself: only its heartbeat may do that."""
    said = folder / "said"
    why = said.read_text() if said.exists() else "for no reason"
    if "nothing was heard from the control loop" not in why:
        yield f"it ended by itself: {why}"


def _end(pids: dict[str, int], resting: bool) -> Iterator[str]:
    """Wait until all processes have ended; one that was stopped between episodes goes on rightly, and is ended."""
    if resting:
        with suppress(ProcessLookupError):
            os.kill(pids["control"], signal.SIGINT)
    if not _until(lambda: not any(map(_alive, pids.values())), AWAY):
        yield f"left: {[name for name, pid in pids.items() if _alive(pid)]}"
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def trial(how: str, finetuned: Path, chance: random.Random) -> Trial:
    """One session that ends by ``how``."""
    folder, found = Path(tempfile.mkdtemp(prefix="kills.")), Trial(how, [])

    def parent() -> None:
        (folder / "parent.pid").write_text(str(os.getpid()))
        os.waitpid(_fork(lambda: session(folder, finetuned)), 0)

    started, motors = _fork(parent), folder / "motors"
    if not _until(lambda: motors.exists() and motors.stat().st_size > STARTED, 30):
        found.wrong.append("the session did not start")
    time.sleep(chance.uniform(0, 1.2))  # more than an episode, so that resets and checkpoints are met too
    pids = {path.stem: int(path.read_text()) for path in folder.glob("*.pid")}
    when = _hit(pids, how)
    found.late, hangs = when is None, how == "control hangs" and when is not None
    found.resting = hangs and not _until(lambda: _log(folder)[-1][1] == "stop", 0.5)
    found.wrong += _end(pids, found.resting)
    with suppress(ChildProcessError):
        os.waitpid(started, 0)
    log = _log(folder)
    commands = [at for at, what in log if not isinstance(what, str)]
    found.commands = len(commands)
    if when is None:
        found.wrong += _late(folder)
    elif not found.resting:
        found.after = max(0.0, commands[-1] - when)
    found.lost = len(commands) - _recorded(folder)
    found.wrong += _judge(log)
    stopped = log[-1][1] == "stop" or (how == "robot's process killed" and not found.late)
    checks = {"no stop": stopped, f"{found.lost} steps not recorded": found.lost <= 1}
    # That nobody learns any more is noticed with the next chunk; nothing is unsupervised meanwhile.
    prompt = GUARD.heartbeat + SLACK + (TASK.chunk / TASK.fps if how == "learner killed" else 0)
    checks[f"a command {found.after:.3f} s later"] = found.after <= prompt
    found.wrong += [what for what, right in checks.items() if not right]
    if found.wrong:
        sys.stderr.write(f"{how}: {found.wrong} in {folder}\n")
    else:
        shutil.rmtree(folder)
    return found


def trials(how: str, finetuned: Path, chance: random.Random) -> Iterator[Trial]:
    """Sessions until one has lasted to the moment at which it is to end by ``how``."""
    for _ in range(AGAIN):
        yield (found := trial(how, finetuned, chance))
        if not found.late:
            return
    found.wrong.append(f"{AGAIN} sessions ended before they were to")


def main() -> None:
    """Run the trials, in turn over what is done to whom; exit code 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slack", type=float, default=0.15, help="seconds that a busy machine may add")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/kills.json")
    options = parser.parse_args()
    global SLACK
    SLACK = options.slack
    torch.set_num_threads(1)  # forking needs a process without threads
    sys.stderr.write(f"{postbc.robots.twin.__name__} is loaded\n")
    chance, hows = random.Random(options.seed), list(HOW)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as scratch:
        os.waitpid(_fork(lambda: policy(Path(scratch) / "finetuned")), 0)
        wanted = (hows[i % len(hows)] for i in range(options.trials))
        found = [one for how in wanted for one in trials(how, Path(scratch) / "finetuned", chance)]
    by = {how: [one for one in found if one.how == how] for how in hows}
    rows = {
        how: {
            "trials": sum(not one.late for one in own),
            "ended_before": sum(one.late for one in own),
            "wrong": sum(bool(one.wrong) for one in own),
            "commands": sum(one.commands for one in own),
            "last_command_after_ms": round(1e3 * max(one.after for one in own), 1),
            "at_rest": sum(one.resting for one in own),
            "steps_lost_at_most": max(one.lost for one in own),
        }
        for how, own in by.items()
        if own
    }
    wrong = Counter(what for one in found for what in one.wrong)
    sys.stdout.write(json.dumps({"rows": rows, "wrong": wrong}, indent=1) + "\n")
    if options.keep:
        record.write("kills", ("torch", "numpy"), {"rows": rows, "wrong": wrong, "heartbeat_s": GUARD.heartbeat})
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
