"""The energy score against its closed form."""

from math import pi

import pytest
import torch

from postbc.scoring import energy_score


@pytest.mark.parametrize("samples", [2, 5])
def test_of_a_normal_distribution_and_its_own_draws(samples):
    """E|y − a| = E|y − y'| = 2/√π for y, y', a ~ N(0, 1): without bias, however few the samples."""
    generator = torch.Generator().manual_seed(0)
    drawn, observed = (
        torch.randn(samples, 400_000, 1, generator=generator),
        torch.randn(400_000, 1, generator=generator),
    )
    score, apart = energy_score(drawn, observed)
    assert float(score) == pytest.approx(pi**-0.5, abs=0.005)
    assert float(apart) == pytest.approx(2 * pi**-0.5, abs=0.005)
