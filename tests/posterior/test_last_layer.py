"""The closed form against what is known of it."""

from dataclasses import replace

import torch
from toy import make_frames, toy_episode

from postbc.config import PosteriorConfig
from postbc.posterior import last_layer
from postbc.posterior.last_layer import autocorrelation_time, evidence
from postbc.posterior.models import fit_posterior, load_model, save_model
from postbc.storage.checkpoint import Checkpoints
from postbc.storage.manifest import write_manifest

CONFIG = PosteriorConfig(kind="last_layer", members=400, hidden=16, layers=2, steps=400, batch=32)


def fit(frames, tmp_path, config=CONFIG):
    return fit_posterior(frames, 2, config, 0, Checkpoints(tmp_path / "checkpoint", "test"))[0]


def test_evidence_recovers_the_noise_of_a_linear_problem():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 6, generator=generator, dtype=torch.double)
    weights = 2.0 * torch.randn(6, 1, generator=generator, dtype=torch.double)
    y = features @ weights + 0.3 * torch.randn(4000, 1, generator=generator, dtype=torch.double)
    eigen, basis = torch.linalg.eigh(features.T @ features)
    prior, noise = evidence(eigen, basis.T @ (features.T @ y), y.square().sum(0), 4000)
    assert abs(float(noise) ** -0.5 - 0.3) < 0.01
    assert 0.5 < float(prior) ** -0.5 / float(weights.square().mean().sqrt()) < 2


def test_its_variance_is_the_formulas(frames, tmp_path):
    """Draws against φᵀ (λI + βΦᵀΦ/τ)⁻¹ φ computed directly, where no prediction is clipped."""
    model = fit(frames, tmp_path, replace(CONFIG, members=4000))
    features = model.hidden(model.features(frames)).double()
    y = model.target_normalizer(frames.all_chunks(2)).double()
    residual = y - features @ torch.linalg.pinv(features) @ y
    tau = autocorrelation_time(residual, frames)
    gram, shown = features.T @ features / tau, features.T @ y / tau
    eigen, basis = torch.linalg.eigh(gram)
    prior, noise = evidence(eigen.clamp_min(0), basis.T @ shown, y.square().sum(0) / tau, len(y) / tau)
    unit = torch.eye(len(gram), dtype=torch.double)
    covariance = torch.stack([torch.linalg.inv(p * unit + n * gram) for p, n in zip(prior, noise, strict=True)])
    wanted = torch.einsum("nf,dfg,ng->nd", features, covariance, features)
    drawn = torch.einsum("nf,fed->ned", features, model.draws.double()).square().mean(1)
    assert torch.allclose(drawn, wanted, rtol=0.12)
    mean = torch.einsum("dfg,gd->fd", covariance, noise * shown)
    assert torch.allclose(features @ model.mean.double(), features @ mean, atol=1e-3)
    predicted = model.predict(frames.obs)
    assert predicted.shape == (len(frames), 4000, 4)
    assert (predicted.std(1).mean(0) > 0).all()


def test_more_demonstrations_leave_less_open(tmp_path, monkeypatch):
    """With frames that count as independent; how much they do is another test's matter."""
    monkeypatch.setattr(last_layer, "autocorrelation_time", lambda *_: 1.0)
    few, many = (make_frames([toy_episode(n) for n in range(count)]) for count in (24, 96))
    spread = [fit(f, tmp_path / str(len(f))).predict(few.obs).std(1).mean() for f in (few, many)]
    assert spread[1] < 0.8 * spread[0]


def test_copies_of_a_frame_do_not_count_as_evidence(frames):
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(len(frames), 4, generator=generator)
    assert autocorrelation_time(white, frames) < 1.3
    held = torch.randn(frames.episodes, 4, generator=generator)[frames.episode]
    assert autocorrelation_time(held, frames) > 8  # the episodes have 12 frames


def test_it_is_saved_and_opened(frames, tmp_path):
    model, folder = fit(frames, tmp_path), tmp_path / "posterior"
    folder.mkdir()
    save_model(model, folder)
    write_manifest(folder)
    assert torch.equal(load_model(folder).predict(frames.obs), model.predict(frames.obs))
