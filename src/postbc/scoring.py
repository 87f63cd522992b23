"""How well samples of actions match what was done: the energy score (Gneiting & Raftery 2007).

energy = E‖y − a‖ − ½ E‖y − y'‖   of samples y, y' and the action a;   smaller is better, 0 for certain and right
"""

from jaxtyping import Float
from torch import Tensor


def energy_score(
    drawn: Float[Tensor, "S N D"], observed: Float[Tensor, "N D"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean energy score of S samples for each of N observations, and E‖y − y'‖ over all pairs of different samples."""
    count = len(drawn)
    pairs = [(drawn - drawn.roll(k, 0)).norm(dim=2).mean() for k in range(1, count)]
    apart = sum(pairs[1:], pairs[0]) / (count - 1)
    return (drawn - observed).norm(dim=2).mean() - apart / 2, apart
