"""Every finetuner on a task in which what it has to learn is known."""

import copy
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from toy_task import BASE, CHUNK, CONFIGS, ENVS, LIMIT, Dial, Identity, Line, Mirror, Near, run, success, wanderer

from postbc.errors import ConfigError, IntegrityError, TrainingDivergedError
from postbc.evaluation.rollouts import evaluate, summary
from postbc.finetune.algorithms import ALGORITHMS, build_learner
from postbc.finetune.artifact import continue_from, save_finetuned
from postbc.finetune.driver import Arena, crossed, finetune
from postbc.finetune.learner import OffPolicy
from postbc.finetune.replay import to_batch
from postbc.policies.folder import load_policy
from postbc.policies.policy import Latent, Policy
from postbc.sims.vector import ChunkVector, Transition
from postbc.storage.checkpoint import Checkpoints, flatten

SHORT = {name: replace(config, env_steps=600, initial_steps=0) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def wanderers(tmp_path_factory):
    return {kind: wanderer(kind, tmp_path_factory.mktemp("base")) for kind in ("diffusion", "flow")}


@pytest.fixture
def base(wanderers):
    """The policy that an algorithm begins with: DPPO needs a chain of steps, the others take one without."""
    return lambda name: copy.deepcopy(wanderers["diffusion"]) if name == "dppo" else Identity()


def test_every_algorithm_is_tried_here():
    assert CONFIGS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize(
    ("name", "model", "sign"), [("dsrl", Identity, 1), ("dsrl_na", Identity, 1), ("dsrl_na", Mirror, -1)]
)
def test_steering_learns_to_reach_both_goals_quickly(tmp_path, name, model, sign):
    learner, rows = run(tmp_path, CONFIGS[name], model())
    assert success(build_learner(model(), CONFIGS[name], 0).policy()) == 0  # before: near w = 0, which does not move
    assert success(learner.policy()) == 1
    assert rows[-1]["training_success"] > 0.9
    obs = torch.tensor([[0.0, 0.8], [0.0, -0.8]])
    chosen = learner.policy().noise(obs)
    assert (chosen.mean(1) * torch.tensor([1.0, -1.0]) * sign > 0.5).all()
    # The value counts control steps: from the start at least 4, discounted by 0.99, and from nearby about 1.
    value = learner.critics.value_of(obs, chosen)
    assert (value > -7).all()
    assert (value < -2).all()


def test_the_best_of_n_samples_reaches_what_one_sample_does_not(tmp_path):
    learner, _ = run(tmp_path, CONFIGS["best_of_n"], Identity())
    before, after = success(Policy(Identity(), Latent.SAMPLE), 50), success(learner.policy(), 50)
    assert before < 0.35
    assert after > before + 0.4
    obs = torch.tensor([[0.0, 0.8], [0.0, -0.8]])
    ahead, back = (learner.critics.value_of(obs, torch.full((2, CHUNK), v)) for v in (1.0, -1.0))
    assert ahead[0] > back[0] and back[1] > ahead[1]
    # Discounted success of a policy that mostly wanders, somewhat better than its mean: between nothing and certainty.
    value = learner.value(torch.tensor([[0.6, 0.8], [-0.6, 0.8]])).squeeze(1)
    assert 0.2 < value[0] < 1.05
    assert -0.1 < value[1] < value[0] - 0.1


def test_a_conditional_policys_scale_is_learned(tmp_path):
    learner, _ = run(tmp_path, CONFIGS["dsrl"], Dial())
    assert success(learner.policy()) == 1
    noise = learner.policy().noise(torch.tensor([[0.0, 0.8], [0.0, -0.8]]))
    assert noise.shape == (2, CHUNK + 1)
    assert noise[0, -1] > 0.5 and noise[1, -1] < -0.5


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_seed_gives_the_same_run(tmp_path, name, base):
    (first, rows), (second, again) = (run(tmp_path / folder, SHORT[name], base(name)) for folder in "ab")
    assert rows == again
    for module in first.modules:
        ours, theirs = (learner.modules[module].state_dict() for learner in (first, second))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def same(first, second) -> bool:
    """Whether two learners hold the same, to the last bit."""
    ours, theirs = (flatten(learner.state()) for learner in (first, second))
    tensors = ours[0].keys() == theirs[0].keys() and all(torch.equal(ours[0][k], theirs[0][k]) for k in ours[0])
    return tensors and ours[1] == theirs[1]


@pytest.mark.parametrize("kill_at", [31, 60, 97])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_run_ends_exactly_as_one_left_alone(tmp_path, monkeypatch, name, kill_at, base):
    """Weights, optimisers, replay, random states and curve; the environments go on in the middle of their episodes."""
    budget = {"envs": 4, "env_steps": 1100, "checkpoint_every": 90, "evaluate_every": 400}
    config = replace(CONFIGS[name], **budget, initial_steps=0 if name == "dppo" else 150)
    whole, curve = run(tmp_path / "a", config, base(name), evaluate=look_at_success)
    learn, calls = ALGORITHMS[name].learn, []

    def killed(self, chunks):
        calls.append(1)
        if len(calls) == kill_at:
            raise KeyboardInterrupt
        return learn(self, chunks)

    monkeypatch.setattr(ALGORITHMS[name], "learn", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", config, base(name), evaluate=look_at_success)
    resumed, rows = run(tmp_path / "b", config, base(name), evaluate=look_at_success)
    assert len(calls) > kill_at
    assert rows == curve
    assert same(whole, resumed)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_finetuned_folder_is_evaluated_and_continued_from(tmp_path, name, base):
    learner, _ = run(tmp_path, SHORT[name], base(name))
    save_finetuned(learner, 600, tmp_path / "f")
    fresh = build_learner(copy.deepcopy(learner.model), SHORT[name], 5)
    continue_from(fresh, tmp_path / "f")
    obs, normal = torch.randn(5, 2), torch.randn(5, learner.policy().normal_dim)
    assert torch.equal(fresh.policy().act(obs, normal), learner.policy().act(obs, normal))
    opened = load_policy(tmp_path / "f" / "policy")
    assert opened.latent is learner.policy().latent
    if name == "dppo":
        assert torch.equal(opened.act(obs, normal), learner.policy().act(obs, normal))
        assert learner.critics is None and not (tmp_path / "f" / "critics").exists()
    else:
        choice = torch.randn(5, learner.critics.choice_dim)
        assert torch.equal(fresh.critics.value_of(obs, choice), learner.critics.value_of(obs, choice))
    for module in learner.modules:
        ours, theirs = (one.modules[module].state_dict() for one in (learner, fresh))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(ConfigError, match="another form"):
        continue_from(build_learner(base(name), replace(SHORT[name], hidden=16), 5), tmp_path / "f")
    other = build_learner(Identity(), SHORT["dsrl" if name == "best_of_n" else "best_of_n"], 5)
    with pytest.raises(ConfigError, match=name):
        continue_from(other, tmp_path / "f")


@pytest.mark.parametrize("kind", ["diffusion", "flow"])
def test_ppo_through_the_chain_turns_wandering_into_reaching(tmp_path, wanderers, kind):
    before = success(Policy(wanderers[kind], Latent.SAMPLE), 50, Near)
    near = replace(ENVS, make_task=Near)
    learner, rows = run(tmp_path, CONFIGS["dppo"], copy.deepcopy(wanderers[kind]), envs=near)
    assert before < 0.4
    assert success(learner.policy(), 50, Near) > 0.95
    assert rows[-1]["training_success"] > 0.95
    frozen = wanderers[kind].network.state_dict()
    assert all(torch.equal(value, frozen[key]) for key, value in learner.tunable.network.state_dict().items())


def test_only_the_last_steps_are_tuned(tmp_path, wanderers):
    config = replace(SHORT["dppo"], dppo=replace(CONFIGS["dppo"].dppo, steps=1, rollout=5))
    learner, _ = run(tmp_path, config, copy.deepcopy(wanderers["diffusion"]))
    obs, x = torch.randn(5, 2), torch.randn(5, CHUNK)
    tuned, plain = learner.tunable, wanderers["diffusion"]
    for number in range(4):
        steps = [model.step(x, number, model.condition(model.observer(obs), None)) for model in (tuned, plain)]
        assert torch.equal(*steps) == (number < 3)
    with pytest.raises(ConfigError, match="last 9"):
        build_learner(plain, replace(SHORT["dppo"], dppo=replace(config.dppo, steps=9)), 0)


def test_what_would_move_otherwise_with_the_same_weights_is_refused(tmp_path, base):
    """The armed policy is the one that moves: another bound of the noise, other tuned steps, altered weights."""
    learner, _ = run(tmp_path, SHORT["dsrl"], Identity())
    save_finetuned(learner, 600, tmp_path / "f")
    with pytest.raises(ConfigError, match="noise_bound"):
        continue_from(build_learner(Identity(), replace(SHORT["dsrl"], noise_bound=3.0), 0), tmp_path / "f")
    other, _ = run(tmp_path / "o", replace(SHORT["dsrl"], learning_rate=1e-2), Identity())
    save_finetuned(other, 600, tmp_path / "g")
    shutil.rmtree(tmp_path / "f" / "learned")
    shutil.copytree(tmp_path / "g" / "learned", tmp_path / "f" / "learned")
    with pytest.raises(IntegrityError, match="armed"):
        continue_from(build_learner(Identity(), SHORT["dsrl"], 0), tmp_path / "f")
    tuned, _ = run(tmp_path / "d", SHORT["dppo"], base("dppo"))
    save_finetuned(tuned, 600, tmp_path / "h")
    fewer = replace(SHORT["dppo"], dppo=replace(SHORT["dppo"].dppo, steps=2))
    with pytest.raises(ConfigError, match="has 4: other steps"):
        continue_from(build_learner(base("dppo"), fewer, 0), tmp_path / "h")


def test_a_learner_is_told_when_the_environments_begin_anew(tmp_path, monkeypatch, base):
    """Advantages must not run on from before a look into the episodes after it."""
    learner_class, told = ALGORITHMS["dppo"], []
    cut = learner_class.cut
    monkeypatch.setattr(learner_class, "cut", lambda self: (told.append(len(self.played["over"])), cut(self)))
    config = replace(SHORT["dppo"], evaluate_every=150, dppo=replace(SHORT["dppo"].dppo, rollout=10_000))
    learner, rows = run(tmp_path, config, base("dppo"), evaluate=look_at_success)
    assert len(told) == len(rows) - 1  # at the start and after every look but the last
    ended = [bool(row.all()) for row in learner.played["over"]]
    assert all(ended[count - 1] for count in told if count)


def test_starts_that_are_used_up_end_the_run(tmp_path):
    vector = ENVS.vector(2, 0.99)
    arena = Arena(vector, [1, 2, 3], Checkpoints(tmp_path / "c", "x"))
    with pytest.raises(ConfigError, match="3 starts are used up"):
        finetune(build_learner(Identity(), replace(BASE, updates_per_chunk=0.0), 0), arena)
    vector.close()


def look_at_success(policy, vector):
    """Held-out episodes, as finetune_sim plays them."""
    return summary(evaluate(policy, vector, [50_000, 50_001, 50_002], "look"))


def looks(successes):
    """An evaluation that finds ``successes``, one after the other."""
    found = iter(successes)

    def look(policy, vector: ChunkVector):
        vector.reset([50_000, 60_000])  # held-out starts
        return {"success": next(found)}

    return look


@pytest.mark.parametrize(
    ("rewards", "kept_look"), [(None, 3), ([0.9, 0.9, 0.8, 0.7, 0.9], 2), ([0.1, 0.9, 0.4, 0.4, 0.9], 3)]
)
def test_the_best_policy_that_was_looked_at_is_kept(tmp_path, rewards, kept_look):
    config = replace(BASE, env_steps=1000, initial_steps=0, evaluate_every=250)
    seen = []

    def look(policy, vector):
        vector.reset([50_000, 60_000])
        seen.append({k: v.clone() for k, v in policy.actor.state_dict().items()})
        row = {"success": [0.1, 0.6, 0.9, 0.9, 0.2][len(seen) - 1]}
        return row if rewards is None else {**row, "mean_max_reward": rewards[len(seen) - 1]}

    learner, curve = run(tmp_path, config, Identity(), evaluate=look)
    assert [row["success"] for row in curve] == [0.1, 0.6, 0.9, 0.9, 0.2]
    kept = learner.policy().actor.state_dict()
    same = [all(torch.equal(kept[k], one[k]) for k in kept) for one in seen]
    assert same == [number == kept_look for number in range(5)]  # of equals the later one


def test_the_best_is_kept_across_a_kill(tmp_path):
    config = replace(BASE, env_steps=1000, initial_steps=0, evaluate_every=250, checkpoint_every=100)
    with pytest.raises(StopIteration):
        run(tmp_path, config, Identity(), evaluate=looks([0.1, 0.9, 0.3]))
    saved = Checkpoints(tmp_path / "c", "test").load()
    learner, _ = run(tmp_path, config, Identity(), evaluate=looks([0.2, 0.2, 0.2]))
    best, kept = saved["best"]["actor"], learner.policy().actor.state_dict()
    assert all(torch.equal(best[key], kept[key]) for key in kept)


def test_a_success_that_was_asked_for_ends_the_run(tmp_path):
    config = replace(BASE, env_steps=3000, initial_steps=0, evaluate_every=250, stop_at=0.8, updates_per_chunk=0.1)
    _, rows = run(tmp_path, config, Identity(), evaluate=looks([0.1, 0.5, 0.85]))
    assert len(rows) == 3
    assert rows[-1]["env_steps"] < 600


@pytest.mark.parametrize(
    ("metrics", "said"),
    [({"q": float("nan")}, "learning_rate"), ({"q": -5e3}, "100"), ({"temperature": 2e3}, "entropy")],
)
def test_what_cannot_come_right_again_stops_the_run(tmp_path, monkeypatch, metrics, said):
    monkeypatch.setattr(OffPolicy, "learn", lambda self, chunks: metrics)
    with pytest.raises(TrainingDivergedError, match=said):
        run(tmp_path, SHORT["dsrl"], Identity())


def test_a_time_limit_bootstraps_and_an_end_does_not():
    zeros = np.zeros((3, 2), np.float32)
    flags = [np.array(x) for x in ([True, False, False], [False, True, False])]
    steps, success_, seed = np.array([1, 2, 2]), np.array([True, False, False]), np.arange(3)
    step = Transition(zeros, zeros + 1, np.array([1.0, 0, 0]), *flags, steps, success_, np.zeros(3), seed)
    batch = to_batch(torch.zeros(3, 2), torch.zeros(3, 2), step, 0.9, 1.0)
    assert torch.allclose(batch.bootstrap, torch.tensor([0.0, 0.81, 0.81]))
    assert torch.allclose(batch.reward, torch.tensor([0.0, -1.9, -1.9]), atol=1e-6)
    assert torch.equal(batch.following, torch.ones(3, 2))


def test_looking_at_a_policy_between_episodes_costs_no_start_twice(tmp_path):
    from postbc.sims.vector import ChunkEnvs

    seen = []

    class Watched(Line):
        def _start(self, seed):
            seen.append(seed)
            super()._start(seed)

    config = replace(BASE, env_steps=400, initial_steps=0, updates_per_chunk=0.0, evaluate_every=100)
    vector = ChunkEnvs(Watched, CHUNK, LIMIT).vector(4, 0.99)
    arena = Arena(vector, list(range(3000)), Checkpoints(tmp_path / "c", "x"), looks([0.0] * 5))
    rows = finetune(build_learner(Identity(), config, 0), arena)
    training = [seed for seed in seen if seed < 3000]
    assert len(training) == len(set(training))
    assert len(rows) == 5
    assert isinstance(vector._vector, gym.vector.SyncVectorEnv)


def test_crossing_a_multiple():
    assert crossed(3, 4, 4)
    assert not crossed(4, 7, 4)
    assert not crossed(0, 100, 0)
