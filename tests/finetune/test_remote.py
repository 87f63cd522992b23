"""A learner in a process of its own: the same run, nothing delayed, and nothing lost when a process dies."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_task import BASE, CHUNK, ENVS, SHAPE, Identity

from postbc.config import DppoConfig
from postbc.errors import LearnerLostError
from postbc.finetune.algorithms import build_learner
from postbc.finetune.artifact import save_finetuned
from postbc.finetune.driver import Arena, finetune
from postbc.finetune.experience import Experience, Record
from postbc.finetune.remote import RemoteLearner, _Learning, start_learner
from postbc.finetune.replay import Batch
from postbc.policies.diffusion import DiffusionPolicy
from postbc.sims.vector import Transition
from postbc.storage.checkpoint import Checkpoints

SHORT = replace(BASE, env_steps=120, initial_steps=0, envs=1, batch=16, checkpoint_every=50)
WIDTHS = (2,), (CHUNK,), (), (), (2,)  # of a batch


def finetuned(folder, config=SHORT):
    """Something to go on from."""
    torch.manual_seed(0)
    save_finetuned(build_learner(DiffusionPolicy(Identity().shape), config, 0), 0, folder)
    return folder


def played(learner, folder, config=SHORT, **where):
    vector = ENVS.vector(1, config.discount)
    try:
        return finetune(learner, Arena(vector, list(range(1000)), Checkpoints(folder, "x"), restorable=False, **where))
    finally:
        vector.close()


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, own in ours.items():
        for key, value in own.items():
            assert torch.equal(value, theirs[name][key]), (name, key)


@pytest.mark.parametrize("algorithm", ["dsrl", "best_of_n"])
def test_where_time_stands_still_it_is_the_same_run(algorithm, tmp_path):
    config = replace(SHORT, algorithm=algorithm)
    folder = finetuned(tmp_path / "f", config)
    here, far = start_learner(folder, config, 3, False), RemoteLearner(folder, config, 3, waits=False)
    try:
        rows = played(here, tmp_path / "a", config), played(far, tmp_path / "b", config)
        far.settle()
        assert rows[0] == rows[1]
        same(here.weights(), far.weights())
        saved = here.state()
        found = far.state()
        same(saved["modules"], found["learning"]["modules"])
        assert found["learning"]["replay"]["size"] == saved["replay"]["size"] > 0
    finally:
        far.close()


def test_what_was_said_of_an_earlier_moment_does_not_settle_it(tmp_path):
    far = RemoteLearner(finetuned(tmp_path / "f"), SHORT, 3, waits=True)
    try:
        far._ask(settle=False)  # answered before anything is owed
        assert far.child.pipe.poll(60)
        for _ in range(50):
            far._send("learn", 1.0)
        far.settle()
        assert far.state()["learning"]["chunks_owed"] == 0
    finally:
        far.close()


def test_what_is_learned_after_the_last_look_is_told_when_it_is_settled(tmp_path):
    config = replace(SHORT, updates_after=99, updates_per_chunk=1.0)
    far = RemoteLearner(finetuned(tmp_path / "f"), config, 3, waits=True)
    try:
        played(far, tmp_path / "c", config)
        assert set(far.settle()) >= {"critic_loss", "q"}
        assert far.settle() is None  # told once
    finally:
        far.close()


@pytest.mark.parametrize("updates", [0.5, 1.0, 3.0, 49.0])
def test_the_learning_process_listens_between_gradient_steps(monkeypatch, updates):
    steps, listened, said = [], [], [(["learn", 2.0], {}), (["learn", 4.0], {})]
    monkeypatch.setattr("postbc.finetune.remote.receive", lambda pipe: said.pop())
    pipe = SimpleNamespace(poll=lambda seconds: listened.append(len(steps)) or bool(said))
    learning = _Learning(pipe)
    learning.learner = build_learner(Identity(), replace(SHORT, updates_per_chunk=updates), 0)
    learning.learner.take(Batch(*(torch.zeros(5, *width) for width in WIDTHS)), torch.zeros(5, CHUNK))
    learning.learner.update = lambda: steps.append(1)
    with pytest.raises(IndexError):  # nothing is owed, and nothing said any more
        learning.run()
    assert len(steps) == 6 * updates
    assert max(np.diff([*listened, len(steps)])) == 1


def test_a_run_that_was_killed_goes_on_with_all_that_was_played(tmp_path):
    folder, path = finetuned(tmp_path / "f"), tmp_path / "experience"
    far, seen = RemoteLearner(folder, SHORT, 3, waits=True), []
    take = far.store

    def until_killed(obs, choice, step):
        seen.append(step)
        take(obs, choice, step)
        if len(seen) == 40:  # beyond the checkpoint at 50 control steps, in the middle of an episode
            far.child.process.kill()

    far.store = until_killed
    with pytest.raises(LearnerLostError, match="run it again"):
        played(far, tmp_path / "c", experience=Experience(path, "x"))
    far.close()
    kept = list(Experience(path, "x").since(0))
    at = Checkpoints(tmp_path / "c", "x").load()["progress"]["env_steps"]
    assert 0 < at < kept[0].env_steps
    again, stored = RemoteLearner(folder, SHORT, 3, waits=True), []
    again.store = lambda obs, choice, step: stored.append(int(step.steps.sum()))
    try:
        rows = played(again, tmp_path / "c", experience=Experience(path, "x"))
    finally:
        again.close()
    assert at + sum(stored) == rows[-1]["env_steps"] >= SHORT.env_steps  # counted once, learned from again
    assert stored[: len(kept)] == [int(record.step.steps.sum()) for record in kept]
    assert not list(Experience(path, "y").since(0))


@pytest.mark.parametrize(("algorithm", "chunks"), [("dsrl", [1, 2, 3, 4, 5]), ("dppo", [2, 4])])
def test_a_rollout_that_is_made_up_for_ends_with_an_episode(tmp_path, algorithm, chunks):
    """A policy that is improved in the middle of an episode did not play the rest of it."""
    config = replace(SHORT, algorithm=algorithm, env_steps=9, dppo=DppoConfig(steps=2, rollout=1))
    learner, kept, stored, learned = (
        build_learner(DiffusionPolicy(SHAPE), config, 0),
        Experience(tmp_path / "e", "x"),
        [],
        [],
    )
    for number, over in enumerate([False, True, False, True, False]):
        step = replace(transition(0), terminated=np.array([over]), truncated=np.array([False]))
        kept.add(Record(torch.zeros(1, 2), torch.zeros(1, 3), step, 2 * (number + 1), 1 + (number + 1) // 2))
    learner.store = lambda *_: stored.append(1)
    learner.learn = lambda _: learned.append(len(stored))
    vector = ENVS.vector(1, config.discount)
    try:
        finetune(learner, Arena(vector, [1, 2, 3], Checkpoints(tmp_path / "c", "x"), restorable=False, experience=kept))
    finally:
        vector.close()
    assert learned == chunks


def transition(number):
    flags = {name: np.array([number % 2 == 0]) for name in ("terminated", "truncated", "success")}
    row = np.full((1, 2), number, np.float32)
    numbers = {"reward": np.array([0.5]), "best": np.array([0.5]), "steps": np.array([2]), "seed": np.array([number])}
    return Transition(row, row + 1, **numbers, **flags, intervened=number == 1)


def test_experience_survives_being_cut_off_at_any_byte(tmp_path):
    path = tmp_path / "e"
    for number in range(3):
        record = Record(torch.full((1, 2), 1.0), torch.full((1, 3), 2.0), transition(number), 2 * (number + 1), number)
        Experience(path, "run").add(record)
    whole, counts = path.read_bytes(), []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        counts.append(len(list(Experience(path, "run").since(0))))
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 3)
    second = next(iter(Experience(path, "run").since(2)))
    assert (second.env_steps, second.starts_used, second.step.intervened) == (4, 1, True)
    assert second.step.final.tolist() == [[2.0, 2.0]]
    assert second.choice.tolist() == [[2.0, 2.0, 2.0]]
    Experience(path, "run").clear()
    assert not list(Experience(path, "run").since(0))


@pytest.mark.parametrize("zeros", [3, 8, 4096])
def test_what_a_power_cut_left_as_zeros_is_left_out_and_gone_on_after(tmp_path, zeros):
    path = tmp_path / "e"
    record = Record(torch.zeros(1, 2), torch.zeros(1, 3), transition(0), 2, 1)
    Experience(path, "run").add(record)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(zeros))
    again = Experience(path, "run")
    assert [found.env_steps for found in again.since(0)] == [2]
    again.add(replace(record, env_steps=4))
    assert [found.env_steps for found in Experience(path, "run").since(0)] == [2, 4]
    length = len(whole) - len(b"run") - 16
    path.write_bytes(whole + length.to_bytes(8, "little") + bytes(length))
    assert [found.env_steps for found in Experience(path, "run").since(0)] == [2]


def test_a_cut_off_record_does_not_hide_what_comes_after_it(tmp_path):
    path = tmp_path / "e"
    record = Record(torch.zeros(1, 2), torch.zeros(1, 3), transition(0), 2, 1)
    Experience(path, "run").add(record)
    path.write_bytes(path.read_bytes()[:-5])
    again = Experience(path, "run")
    again.add(replace(record, env_steps=4))
    assert [found.env_steps for found in Experience(path, "run").since(0)] == [4]


def test_what_a_person_did_is_counted_and_not_learned_from(tmp_path):
    learner = build_learner(Identity(), SHORT, 0)
    vector = ENVS.vector(1, SHORT.discount)
    finish = vector.finish
    vector.finish = lambda: replace(finish(), intervened=True)
    try:
        rows = finetune(learner, Arena(vector, list(range(1000)), Checkpoints(tmp_path / "c", "x")))
    finally:
        vector.close()
    assert learner.replay.size == 0
    assert rows[-1]["env_steps"] >= SHORT.env_steps


def test_a_budget_of_episodes_and_updates_after_it(tmp_path):
    config = replace(SHORT, algorithm="best_of_n", episodes=3, updates_after=17, updates_per_chunk=1.0)
    learner, steps = build_learner(Identity(), config, 0), []
    update = learner.update
    learner.update = lambda: steps.append(1) or update()
    vector = ENVS.vector(1, config.discount)
    try:
        rows = finetune(learner, Arena(vector, list(range(1000)), Checkpoints(tmp_path / "c", "x")))
    finally:
        vector.close()
    assert rows[-1]["training_episodes"] == 3
    assert rows[-1]["env_steps"] < config.env_steps
    chunks = learner.replay.size
    assert len(steps) == chunks - 1 + 17  # learning from the first one begins with the second


@pytest.mark.parametrize("config", [replace(SHORT, env_steps=0), replace(SHORT, env_steps=40, initial_steps=40)])
def test_what_was_asked_for_after_a_budget_without_learning_is_learned_and_looked_at(tmp_path, config):
    config = replace(config, algorithm="best_of_n", updates_after=17, updates_per_chunk=1.0)
    learner, steps, looked = build_learner(Identity(), config, 0), [], []
    learner.take(Batch(*(torch.zeros(5, *width) for width in WIDTHS)), torch.zeros(5, CHUNK))
    update = learner.update
    learner.update = lambda: steps.append(1) or update()
    vector = ENVS.vector(1, config.discount)
    look = lambda policy, vector: looked.append(len(steps)) or {"success": 0.0}  # noqa: E731
    try:
        rows = finetune(learner, Arena(vector, list(range(1000)), Checkpoints(tmp_path / "c", "x"), look))
    finally:
        vector.close()
    assert looked == [0, 17]
    assert "critic_loss" not in rows[0] and "critic_loss" in rows[-1]


def test_what_is_learned_after_the_budget_is_made_up_for_without_playing_again(tmp_path):
    config = replace(SHORT, algorithm="best_of_n", updates_after=17, updates_per_chunk=1.0)
    kept = Experience(tmp_path / "e", "x")

    class PowerFailsError(Exception):
        """And nothing is done any more."""

    first = build_learner(Identity(), config, 0)
    learn = first.learn

    def until_the_end(chunks):
        if chunks == 17:
            raise PowerFailsError
        return learn(chunks)

    first.learn = until_the_end
    with pytest.raises(PowerFailsError):
        played(first, tmp_path / "c", config, experience=kept)
    again, asked = build_learner(Identity(), config, 0), []
    learn_again = again.learn
    again.learn = lambda chunks: asked.append(chunks) or learn_again(chunks)
    vector = ENVS.vector(1, config.discount)
    vector.reset = None  # would wait for a person to prepare an episode that is not played
    try:
        arena = Arena(vector, list(range(1000)), Checkpoints(tmp_path / "c", "x"), restorable=False, experience=kept)
        rows = finetune(again, arena)
    finally:
        vector.close()
    assert asked[-1] == 17
    assert rows[-1]["env_steps"] >= config.env_steps


def test_what_another_run_has_gone_through_is_put_aside(tmp_path, caplog):
    path = tmp_path / "e"
    record = Record(torch.zeros(1, 2), torch.zeros(1, 3), transition(0), 2, 1)
    Experience(path, "before").add(record)
    with caplog.at_level("WARNING"):
        Experience(path, "now").add(record)
    (aside,) = tmp_path.glob("e.*")
    assert len(list(Experience(aside, "before").since(0))) == len(list(Experience(path, "now").since(0))) == 1
    assert str(aside) in caplog.text
    Experience(path, "later").clear()
    assert not path.exists() and len(list(tmp_path.glob("e.*"))) == 2


@pytest.mark.parametrize("capacity", [5000, 16])
def test_a_run_goes_on_with_the_replay_of_the_one_before(tmp_path, capacity):
    first = build_learner(DiffusionPolicy(Identity().shape), SHORT, 0)
    played(first, tmp_path / "c")
    save_finetuned(first, 0, tmp_path / "f")
    config = replace(SHORT, buffer=capacity)
    fresh = start_learner(tmp_path / "f", config, 3, replay=False)
    again = start_learner(tmp_path / "f", config, 3, replay=True)
    assert fresh.replay.size == 0
    assert again.replay.size == min(first.replay.size, capacity)
    kept, own = again.experience(), first.experience()
    assert torch.equal(torch.sort(kept["reward"]).values, torch.sort(own["reward"][-capacity:]).values)
    far = RemoteLearner(tmp_path / "f", config, 3, waits=False, replay=True)
    try:
        assert far.experience()["size"] == again.replay.size
    finally:
        far.close()


def test_a_replay_that_has_wrapped_is_carried_on_oldest_first():
    from postbc.finetune.replay import Batch, Replay

    small, large = Replay(4, 1, 1), Replay(6, 1, 1)
    for number in range(7):
        one = torch.full((1,), float(number))
        small.add(Batch(one[None], one[None], one, one, one[None]))
    large.extend(small.state())
    assert large.state()["reward"].tolist() == [3, 4, 5, 6]
