"""The fields of a configuration: typed, bounded; :mod:`postbc.compose` puts one together.

Every section is named after the stage that reads it; ``task`` is what all of them share. Impossible values are refused.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from postbc.config.robot import RobotConfig
from postbc.config.sections import is_size, require
from postbc.errors import ConfigError

_KEY = re.compile(r"\w[\w.-]*")  # of an observation, which becomes the name of an array in the store


class Method(StrEnum):
    """How a policy is pretrained; :mod:`postbc.posterior.targets` has the formulas."""

    BC = "bc"
    SIGMA_BC = "sigma_bc"
    POSTBC = "postbc"
    POSTBC_MIXTURE = "postbc_mixture"
    POSTBC_CONDITIONAL = "postbc_conditional"


@dataclass(frozen=True)
class TaskConfig:
    """What is to be done, on which environment."""

    name: str = MISSING
    env: str = MISSING  # a key of postbc.sims.TASKS
    fps: int = 20
    max_steps: int = 150  # time limit of an episode, in control steps
    chunk: int = 4  # H: actions predicted and executed open loop
    history: int = 1  # observations that the policy reads, the present one and those before it
    image_memory: float = 4.0  # GiB of demonstrated camera images kept in memory; more are read from the disk as needed
    instruction: str = ""
    options: dict[str, Any] = field(default_factory=dict)  # passed to the environment

    def __post_init__(self) -> None:
        require(
            self,
            fps=self.fps > 0,
            max_steps=self.max_steps > 0,
            chunk=0 < self.chunk <= self.max_steps,
            history=self.history > 0,
            image_memory=is_size(self.image_memory),
        )


@dataclass(frozen=True)
class IngestConfig:
    """Which recorded demonstrations are taken in."""

    source: str = MISSING  # a file or a folder, searched to any depth
    max_episodes: int | None = None  # the first ones, in the order of the files' names; some presets set it
    filter_key: str | None = None  # of robomimic files: the subset to take, e.g. train
    keys: dict[str, Any] = field(
        default_factory=dict
    )  # recorded observation: the task's name for it (letters, digits, _ . -; all different); null leaves it out
    image_size: list[int] | None = None  # [height, width] that camera images are scaled to
    allow: list[str] = field(default_factory=list)  # checks whose errors do not stop it, see docs/demonstrations.md

    def __post_init__(self) -> None:
        names = [name for name in self.keys.values() if name is not None]
        require(
            self,
            max_episodes=self.max_episodes is None or self.max_episodes > 0,
            keys=all(isinstance(n, str) and _KEY.fullmatch(n) for n in names) and len(set(names)) == len(names),
            image_size=not self.image_size or (len(self.image_size) == 2 and min(self.image_size) > 0),
        )


@dataclass(frozen=True)
class PosteriorConfig:
    """What is not known about the demonstrator's actions, and how it is checked."""

    kind: str = "ensemble"  # ensemble | last_layer (Bayesian last layer of one network)
    members: int = 50  # E: members of the ensemble, or draws from the last layer's posterior
    bootstrap: str = "trajectory"  # trajectory | sample | targets (all frames, perturbed actions)
    target_noise: float = 0.1  # of bootstrap: targets, in half ranges
    prior: float = 0.0  # weight of each member's fixed random prior function, in half ranges; 0: none
    covariance: str = "full"  # full | step (steps of a chunk independent) | diagonal
    hidden: int = 64
    layers: int = 3
    steps: int = 2000
    batch: int = 64  # per member
    learning_rate: float = 1e-3
    folds: int = 3  # episodes are held out in turn to calibrate the posterior; 0: it is not calibrated

    def __post_init__(self) -> None:
        require(
            self,
            kind=self.kind in ("ensemble", "last_layer"),
            members=self.members >= 2,
            bootstrap=self.bootstrap in ("trajectory", "sample", "targets"),
            target_noise=is_size(self.target_noise),
            prior=is_size(self.prior),
            covariance=self.covariance in ("full", "step", "diagonal"),
            hidden=self.hidden > 0,
            layers=self.layers > 0,
            steps=self.steps > 0,
            batch=self.batch > 0,
            learning_rate=self.learning_rate > 0,
            folds=self.folds == 0 or self.folds >= 2,
        )


@dataclass(frozen=True)
class PretrainConfig:
    """The policy and its training."""

    policy: str = "diffusion"  # diffusion | flow | cvae
    hidden: int = 512
    layers: int = 3
    denoising_steps: int = 100  # K in training
    inference_steps: int = 8  # DDIM or Euler steps when sampling
    spacing: str = "quadratic"  # of those: quadratic (densest towards the action) | even
    steps: int = 6000
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    ema: float = 0.995  # decay of the average of the weights, that is the policy; less in the first steps
    clip: float = 10.0  # largest norm of the gradient
    precision: str = "auto"  # float32 | bf16 | auto (bf16 on a GPU)
    processes: int = 1  # that train together, each with its share of the batch; 0: one a GPU
    validation: float = 0.0  # share of the episodes held out to watch the loss on what they demonstrated
    alpha: int | float | str = 1.0  # weight of the posterior noise (postbc…); auto: as posterior.calibration found
    sigma: int | float | str = (
        "matched"  # of sigma_bc, in half ranges; matched: the posterior noise's average, times alpha
    )
    share: float = 0.5  # of the targets that postbc_mixture perturbs

    def __post_init__(self) -> None:
        require(
            self,
            hidden=self.hidden > 0,
            layers=self.layers > 0,
            denoising_steps=self.denoising_steps > 0,
            inference_steps=0 < self.inference_steps <= self.denoising_steps,
            spacing=self.spacing in ("quadratic", "even"),
            steps=self.steps > 0,
            batch=self.batch > 0,
            learning_rate=self.learning_rate > 0,
            weight_decay=self.weight_decay >= 0,
            ema=0 <= self.ema < 1,
            clip=self.clip > 0,
            precision=self.precision in ("float32", "bf16", "auto"),
            processes=self.processes >= 0,
            validation=0 <= self.validation < 1,
            policy=self.policy in ("diffusion", "flow", "cvae"),
            alpha=self.alpha == "auto" or is_size(self.alpha),
            sigma=self.sigma == "matched" or is_size(self.sigma),
            share=0 <= self.share <= 1,
        )


@dataclass(frozen=True)
class DppoConfig:
    """What DPPO learns with beside the finetuner's own settings; its minibatches are `batch` chunks."""

    steps: int = 8  # K', the last denoising steps that are finetuned
    rollout: int = 50  # chunks played in every environment between improvements
    epochs: int = 10  # passes over a rollout
    critic_warmup: int = 2  # improvements that leave the policy as it is
    critic_learning_rate: float = 1e-3
    gae: float = 0.95  # λ
    denoising_discount: float = 0.99  # γ_d
    clip: float = 0.01  # ε, of the last step
    clip_base: float = 0.001  # ε_0, of the first
    clip_rate: float = 3.0  # c
    min_std: float = 0.1  # of a step's noise when a chunk is played
    min_log_std: float = 0.1  # likewise in its log-probability
    target_kl: float = 1.0  # above which a rollout is not gone on with

    def __post_init__(self) -> None:
        require(
            self,
            steps=self.steps > 0,
            rollout=self.rollout > 0,
            epochs=self.epochs > 0,
            critic_warmup=self.critic_warmup >= 0,
            critic_learning_rate=self.critic_learning_rate > 0,
            gae=0 <= self.gae <= 1,
            denoising_discount=0 < self.denoising_discount <= 1,
            clip=self.clip >= self.clip_base,
            clip_base=self.clip_base > 0,
            clip_rate=self.clip_rate > 0,
            min_std=self.min_std > 0,
            min_log_std=self.min_log_std > 0,
            target_kl=self.target_kl > 0,
        )


@dataclass(frozen=True)
class FinetuneConfig:
    """The finetuner, its budget and what it learns with."""

    algorithm: str = "dsrl"  # dsrl | dsrl_na (noise-aliased) | best_of_n | dppo
    env_steps: int = 8000  # budget, in control steps over all environments; 0: none, yet a new actor or critic chooses
    episodes: int | None = None  # budget in episodes, whichever is spent first
    initial_steps: int = 1500  # of env_steps, before learning: w ~ N(0, I), or the actor gone on with; not dppo
    envs: int = 2
    updates_per_chunk: float = 4.0  # gradient steps per chunk played
    updates_after: int = 0  # gradient steps when the budget is spent
    batch: int = 256
    hidden: int = 256
    layers: int = 3
    learning_rate: float = 3e-4
    discount: float = 0.99  # per control step
    tau: float = 0.005  # target networks
    noise_bound: float = 1.5  # b of DSRL: w lies in [-b, b]^D
    target_entropy: float | None = None  # of DSRL; None: 0, as in DSRL
    samples: int = 16  # N of best_of_n
    expectile: float = 0.7  # κ of best_of_n
    buffer: int = 100_000  # chunks kept
    demonstrations: bool = False  # put them into the replay first (dsrl_na, best_of_n)
    checkpoint_every: int = 1000  # control steps
    evaluate_every: int = 2000  # control steps in simulation; 0: at the start and the end alone
    evaluate_episodes: int = 20
    stop_at: float | None = None  # in simulation: success of held-out episodes at which the budget need not be spent
    dppo: DppoConfig = field(default_factory=DppoConfig)

    def __post_init__(self) -> None:
        require(
            self,
            algorithm=self.algorithm in ("dsrl", "dsrl_na", "best_of_n", "dppo"),
            env_steps=self.env_steps >= 0,
            initial_steps=0 <= self.initial_steps <= self.env_steps,
            envs=self.envs > 0,
            episodes=self.episodes is None or self.episodes > 0,
            updates_per_chunk=self.updates_per_chunk >= 0,
            updates_after=self.updates_after == 0 or (self.updates_after > 0 and self.updates_per_chunk > 0),
            batch=self.batch > 0,
            hidden=self.hidden > 0,
            layers=self.layers > 0,
            learning_rate=self.learning_rate > 0,
            discount=0 < self.discount <= 1,
            tau=0 < self.tau <= 1,
            noise_bound=self.noise_bound > 0,
            samples=self.samples > 0,
            expectile=0 < self.expectile < 1,
            buffer=self.buffer >= self.batch,
            checkpoint_every=self.checkpoint_every > 0,
            evaluate_every=self.evaluate_every >= 0,
            evaluate_episodes=self.evaluate_episodes > 0,
            stop_at=self.stop_at is None or 0 <= self.stop_at <= 1,
        )


@dataclass(frozen=True)
class FinetuneRobotConfig:
    """The robot and the finetuner's settings on it."""

    robot: RobotConfig = field(default_factory=RobotConfig)
    replay: bool = (
        True  # go on learning from what was played in simulation as well; without it the policy gets worse at first
    )
    finetune: FinetuneConfig = field(
        default_factory=lambda: FinetuneConfig(envs=1, env_steps=3000, initial_steps=0, checkpoint_every=500)
    )

    def __post_init__(self) -> None:
        if self.finetune.demonstrations:
            raise ConfigError(
                "finetune_robot.finetune.demonstrations: they are put into the replay in simulation only."
            )
        if self.finetune.envs != 1:
            raise ConfigError(
                f"finetune_robot.finetune.envs = {self.finetune.envs}: there is one robot, so it must be 1."
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """Held-out episodes, the same for every policy."""

    episodes: int = 50
    coverage_starts: int = 20  # of them, played coverage_tries times each by the pretrained policies; 0: not measured
    coverage_tries: int = 8
    workers: int = 2
    video_steps: int = 200  # length limit of a video, in control steps; 0 for none

    def __post_init__(self) -> None:
        require(
            self,
            episodes=self.episodes > 0,
            coverage_starts=0 <= self.coverage_starts <= self.episodes,
            coverage_tries=self.coverage_tries > 0,
            workers=self.workers > 0,
            video_steps=self.video_steps >= 0,
        )


@dataclass(frozen=True)
class RegisterConfig:
    """Where models are registered."""

    tracking_uri: str = "sqlite:///mlflow.db"  # overridden by MLFLOW_TRACKING_URI
    prefix: str = "postbc"  # model names are <prefix>-<task>-<method>


@dataclass(frozen=True)
class Config:
    """Everything a stage may read."""

    task: TaskConfig = field(default_factory=TaskConfig)
    seed: int = 0
    methods: list[str] = field(default_factory=lambda: ["bc", "postbc"])  # of postbc.config.Method
    ingest: IngestConfig = field(default_factory=IngestConfig)
    posterior: PosteriorConfig = field(default_factory=PosteriorConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    finetune_sim: FinetuneConfig = field(default_factory=FinetuneConfig)
    finetune_robot: FinetuneRobotConfig = field(default_factory=FinetuneRobotConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    register: RegisterConfig = field(default_factory=RegisterConfig)

    @property
    def replays(self) -> bool:
        """Whether a robot goes on with transitions of the simulation."""
        played = self.finetune_sim.env_steps > 0 or self.finetune_sim.demonstrations
        return self.finetune_robot.replay and played and self.finetune_sim.algorithm != "dppo"

    def __post_init__(self) -> None:
        strange = [method for method in self.methods if method not in list(Method)]
        if strange or not self.methods or len(set(self.methods)) < len(self.methods):
            raise ConfigError(f"methods = {self.methods}: expected some of {', '.join(Method)}, each once.")
        sim, robot = self.finetune_sim, self.finetune_robot.finetune
        alike = {"algorithm", "hidden", "layers"} | ({"noise_bound"} if sim.algorithm.startswith("dsrl") else set())
        apart = sorted(name for name in alike if getattr(sim, name) != getattr(robot, name))
        if apart or (sim.algorithm == "dppo" and sim.dppo.steps != robot.dppo.steps):
            raise ConfigError(
                f"finetune_robot.finetune goes on from what finetune_sim has learned: {', '.join(apart) or 'dppo.steps'} "
                "must be the same in both."
            )
        if self.replays and sim.discount != robot.discount:
            raise ConfigError(
                f"finetune_robot.replay goes on with transitions that finetune_sim.discount = {sim.discount} is in already: "
                f"finetune_robot.finetune.discount = {robot.discount} must be the same, or replay false."
            )
        most = 0 if self.pretrain.policy == "cvae" else self.pretrain.inference_steps
        if sim.algorithm == "dppo" and sim.dppo.steps > most:
            raise ConfigError(
                f"finetune_sim: dppo finetunes the last {sim.dppo.steps} denoising steps (dppo.steps); a "
                f"{self.pretrain.policy} policy has {most} (pretrain.inference_steps)."
            )
