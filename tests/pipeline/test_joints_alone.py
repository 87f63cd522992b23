"""A robot that observes its joints and nothing else, from demonstrations to a finetuned policy."""

import torch
from recordings import at

from postbc.config import FinetuneConfig, Method, PosteriorConfig, PretrainConfig, TaskConfig
from postbc.demos.convert import View, convert
from postbc.demos.frames import load_frames
from postbc.demos.ingest import ingest
from postbc.demos.preparation import Preparation
from postbc.demos.readers import find_sources
from postbc.demos.store import episode_count, read_store
from postbc.evaluation.rollouts import evaluate
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.dsrl import Dsrl
from postbc.observation import ObsShape
from postbc.policies.folder import load_policy, save_policy
from postbc.policies.pretrain import pretrain
from postbc.posterior.artifact import write_posterior
from postbc.posterior.ensemble import fit_ensemble
from postbc.posterior.factors import load_factors
from postbc.posterior.targets import Targets
from postbc.sims import get_task
from postbc.sims.demonstrators.collect import Recipe, collect
from postbc.sims.vector import ChunkEnvs
from postbc.storage.checkpoint import Checkpoints

TASK = TaskConfig(name="so101_lift_marked", env="so101_lift_marked", fps=30, max_steps=160, chunk=8)
SHORT = TaskConfig(name="so101_lift_marked", env="so101_lift_marked", fps=30, max_steps=24, chunk=8)


def demonstrated(folder):
    """Frames of two demonstrations."""
    task = get_task(TASK.env)
    collect(Recipe.of(TASK), folder / "demos.hdf5", 2)
    ingest(
        find_sources(folder / "demos.hdf5"),
        folder / "s",
        at(30),
        None,
        Preparation(fit=lambda obs, _: task.observe(obs)),
    )
    convert(read_store(folder / "s"), episode_count(folder / "s"), folder / "d", View(30, "Lift.", task.observe))
    return load_frames(folder / "d", 1)


def test_from_demonstrations_to_a_finetuned_policy(tmp_path):
    frames = demonstrated(tmp_path)
    assert frames.shape == ObsShape(6, 0)
    small = PosteriorConfig(members=3, hidden=8, layers=1, steps=20, batch=16)
    ensemble, _ = fit_ensemble(frames, TASK.chunk, small, 0, Checkpoints(tmp_path / "e", "x"))
    write_posterior(ensemble, frames, (TASK.chunk, small), None, tmp_path / "posterior")
    config = PretrainConfig(hidden=32, layers=1, denoising_steps=10, inference_steps=2, steps=20, batch=8)
    targets = Targets(frames, TASK.chunk, Method.POSTBC, 1.0, load_factors(tmp_path / "posterior", frames))
    policy, _ = pretrain(targets, config, 0, Checkpoints(tmp_path / "c", "x"))
    save_policy(policy, tmp_path / "p")
    policy = load_policy(tmp_path / "p")
    vector = ChunkEnvs.of(SHORT).vector(2, 0.99)
    assert [one.steps for one in evaluate(policy, vector, [5, 6], "x")] == [24, 24]
    settings = FinetuneConfig(
        env_steps=80, initial_steps=30, batch=8, hidden=16, layers=1, updates_per_chunk=1, evaluate_every=0
    )
    learner = Dsrl(policy.model, settings, 0)
    finetune(learner, Arena(vector, list(range(100)), Checkpoints(tmp_path / "f", "x")))
    vector.close()
    save_finetuned(learner, 80, tmp_path / "finetuned")
    rows = frames.rows(torch.arange(4))
    assert torch.equal(load_policy(tmp_path / "finetuned" / "policy").act(rows), learner.policy().act(rows))
