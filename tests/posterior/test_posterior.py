from dataclasses import replace

import pytest
import torch
from toy import IDLE, make_frames, toy_episode, with_idle_dimension

from postbc.adam import AdamW
from postbc.config import PosteriorConfig
from postbc.demos.normalizer import half_range
from postbc.errors import DataError, IntegrityError, MismatchError
from postbc.posterior.artifact import telling_states, write_posterior
from postbc.posterior.bootstrap import Resampled, cumulative, samples, trajectories
from postbc.posterior.ensemble import Ensemble, fit_ensemble
from postbc.posterior.factors import Factors, load_factors
from postbc.posterior.models import fit_posterior, load_model
from postbc.storage.checkpoint import Checkpoints

SMALL = PosteriorConfig(members=5, hidden=16, layers=2, steps=60, batch=16)


def fit(frames, tmp_path, config=SMALL):
    return fit_ensemble(frames, 3, config, 0, Checkpoints(tmp_path / "checkpoint", "test"))


def test_adam_equals_torch():
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    mine = AdamW(ours.parameters(), 0.01, 0.1)
    reference = torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.1)
    for _ in range(20):
        x = torch.randn(4, 3)
        mine.minimise(ours(x).square().mean())
        reference.zero_grad()
        theirs(x).square().mean().backward()
        reference.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)


def test_members_do_not_touch_each_other():
    ensemble = Ensemble({"state": 2, "environment": 2}, 6, 3, 8, 2)
    obs = torch.randn(3, 5, 4)
    ensemble(obs)[1].square().sum().backward()
    for parameter in ensemble.parameters():
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_the_bootstrap_draws_whole_trajectories(frames):
    share = cumulative(trajectories(frames, 50, torch.Generator().manual_seed(1)), frames)
    weight = torch.diff(share, dim=1, prepend=torch.zeros(50, 1))
    by_episode = torch.stack([weight[:, frames.episode == e] for e in range(frames.episodes)], dim=1)
    assert torch.allclose(by_episode, by_episode[..., :1].expand_as(by_episode), atol=1e-6)
    absent = (by_episode.sum(2) == 0).float().mean()
    assert abs(absent - (1 - 1 / 6) ** 6) < 0.08  # the share of trajectories that a bootstrap of 6 leaves out
    drawn = Resampled(share, None).draw(200, torch.Generator())
    assert (torch.gather(weight, 1, drawn) > 0).all()


def test_the_noise_has_exactly_the_ensembles_covariance(frames, tmp_path):
    ensemble, _ = fit(frames, tmp_path)
    factors = Factors.of(ensemble, frames, 3)
    index = torch.full((40_000,), 30)
    drawn = factors.sample(index, torch.Generator().manual_seed(0))
    predicted = ensemble.predict_frames(frames)[30]
    exact = torch.cov(predicted.T, correction=0)
    assert torch.allclose(torch.cov(drawn.T, correction=0), exact, atol=0.05 * exact.abs().max().item())
    assert torch.allclose(factors.std()[30], exact.diagonal().sqrt(), atol=1e-6)


def test_predictions_stay_within_the_demonstrated_actions(frames, tmp_path):
    ensemble, _ = fit(frames, tmp_path)
    far = ensemble.predict(100 * torch.randn(64, 4)).unflatten(2, (3, 2))
    low, high = frames.action.amin(0), frames.action.amax(0)
    assert (far >= low - 1e-6).all()
    assert (far <= high + 1e-6).all()


def test_a_dimension_that_never_varied_is_predicted_as_shown_and_counts_for_nothing(tmp_path):
    frames = with_idle_dimension(make_frames([toy_episode(number) for number in range(6)]))
    ensemble, _ = fit(frames, tmp_path)
    assert (ensemble.predict(100 * torch.randn(64, 4)).unflatten(2, (3, 3))[..., 2] == IDLE).all()
    factors = Factors.of(ensemble, frames, 3)
    states = telling_states(ensemble, factors, frames)
    spread = (factors.std()[:, :2] / half_range(frames.action)[:2]).mean(1)
    assert torch.equal(states["rows"][2], frames.obs[spread.argmax()])
    assert torch.equal(states["rows"][0], frames.obs[spread.argmin()])
    summary = write_posterior(ensemble, frames, (3, SMALL), None, tmp_path / "posterior")
    assert summary["share"]["action_2"] < 1e-9


def test_actions_that_are_all_the_same_are_refused(frames, tmp_path):
    same = replace(frames, action=torch.full_like(frames.action, IDLE))
    with pytest.raises(DataError, match="Every demonstrated action is the same"):
        fit_posterior(same, 3, PosteriorConfig(), 0, Checkpoints(tmp_path / "c", "x"))


def test_spread_is_larger_where_nothing_was_shown(frames, tmp_path):
    ensemble, _ = fit(frames, tmp_path, PosteriorConfig(members=20, hidden=32, layers=2, steps=400, batch=32))
    inside = ensemble.predict(frames.obs).std(1).mean()
    outside = ensemble.predict(frames.obs + torch.tensor([2.0, -2.0, 2.0, -2.0])).std(1).mean()
    assert outside > inside


def test_the_artifact_opens_only_whole_and_with_its_own_data(frames, tmp_path):
    ensemble, _ = fit(frames, tmp_path)
    folder = tmp_path / "posterior"
    summary = write_posterior(ensemble, frames, (3, SMALL), None, folder)
    assert abs(sum(summary["share"].values()) - 1) < 1e-5
    assert torch.equal(load_model(folder).predict(frames.obs), ensemble.predict(frames.obs))
    assert torch.equal(load_factors(folder, frames).centred, Factors.of(ensemble, frames, 3).centred)
    with pytest.raises(MismatchError, match="dvc repro posterior"):
        load_factors(folder, make_frames([toy_episode(7)]))
    file = folder / "factors.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="factors"):
        load_factors(folder, frames)


def test_an_interrupted_fit_goes_on_to_the_same_result(frames, tmp_path, monkeypatch):
    config = PosteriorConfig(members=4, hidden=8, layers=2, steps=1200, batch=8)
    whole, _ = fit(frames, tmp_path / "a", config)
    original, calls = AdamW.minimise, []

    def interrupted(self, loss):
        calls.append(1)
        if len(calls) == 700:
            raise KeyboardInterrupt
        original(self, loss)

    monkeypatch.setattr(AdamW, "minimise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(frames, tmp_path / "b", config)
    resumed, _ = fit(frames, tmp_path / "b", config)
    assert len(calls) == 700 + 700  # from the checkpoint at 500 to 1200
    assert torch.equal(resumed.predict(frames.obs), whole.predict(frames.obs))


@pytest.mark.parametrize("options", [{"bootstrap": "sample"}, {"bootstrap": "targets"}, {"prior": 0.5}])
def test_other_bootstraps_and_priors_fit_and_come_back(frames, tmp_path, options):
    config = replace(SMALL, **options, steps=300)
    model, rows = fit(frames, tmp_path, config)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    folder = tmp_path / "posterior"
    write_posterior(model, frames, (3, config), None, folder)
    assert torch.equal(load_model(folder).predict(frames.obs), model.predict(frames.obs))


def test_perturbed_targets_perturb_an_action_once_in_all_chunks_that_hold_it(frames):
    config = replace(SMALL, bootstrap="targets", members=4, target_noise=0.1)
    data = Resampled.of(frames, 6, config, torch.Generator().manual_seed(0))
    noise = data.noise.unflatten(2, (3, 2))
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    inside = frames.last - torch.arange(len(frames)) >= 2
    following = torch.arange(len(frames))[inside] + 2
    assert torch.equal(noise[:, inside, 2], noise[:, following, 0])
    ends = frames.last == torch.arange(len(frames))
    assert torch.equal(noise[:, ends, 0], noise[:, ends, 2])  # the last action is repeated
    index = torch.zeros(4, 5, dtype=torch.long)
    clean = torch.zeros(len(frames), 6)
    assert torch.equal(data.targets(index, clean)[2, 3], data.noise[2, 0])


@pytest.mark.parametrize("covariance", ["full", "step", "diagonal"])
def test_the_noise_of_a_posterior_that_was_read_is_that_of_the_one_that_was_written(frames, tmp_path, covariance):
    model, _ = fit(frames, tmp_path)
    config, folder = replace(SMALL, covariance=covariance), tmp_path / "posterior"
    write_posterior(model, frames, (3, config), None, folder)
    index = torch.arange(len(frames))
    read, made = load_factors(folder, frames), Factors.of(model, frames, 3, covariance)
    assert (read.covariance, read.horizon) == (covariance, 3)
    drawn = [one.sample(index, torch.Generator().manual_seed(0)) for one in (read, made)]
    assert torch.allclose(*drawn, atol=1e-6)


def test_single_frames_leave_every_member_with_nearly_all_episodes(frames):
    times = samples(frames, 50, torch.Generator().manual_seed(1))
    assert (times.sum(1) == len(frames)).all()
    present = torch.stack([times[:, frames.episode == e].sum(1) > 0 for e in range(frames.episodes)])
    assert present.all()


def test_a_prior_keeps_members_apart_where_nothing_was_shown(frames, tmp_path):
    far = frames.obs + torch.tensor([3.0, -3.0, 3.0, -3.0])
    config = PosteriorConfig(members=10, hidden=16, layers=2, steps=300, batch=16)
    spread = {}
    for weight in (0.0, 1.0):
        model, _ = fit(frames, tmp_path / str(weight), replace(config, prior=weight))
        spread[weight] = float(model(model.observer(far).expand(10, -1, -1)).detach().std(0).mean())
        assert all(not p.requires_grad for p in model.prior.parameters()) if weight else model.prior is None
    assert spread[1.0] > 1.5 * spread[0.0]
    shown = model.prior(model.features(frames).expand(10, -1, -1))
    assert float(shown.square().mean().sqrt()) == pytest.approx(1, abs=1e-4)  # the weight is in half ranges
    assert shown.std(0).min() > 0.1  # members differ everywhere
