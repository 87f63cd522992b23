"""How fast a task steps."""

import time

import numpy as np

from postbc.sims.task import TaskEnv

EPISODE = 50  # control steps between resets, which are not counted


def steps_per_second(env: TaskEnv, steps: int, repeats: int) -> float:
    """Median over ``repeats`` of control steps a second under random actions, the first steps left out."""
    generator, rates = np.random.default_rng(0), []
    actions = generator.uniform(env.action_space.low, env.action_space.high, (steps, *env.action_space.shape))
    for repeat in range(repeats + 1):
        spent = 0.0
        for k, action in enumerate(actions):
            if k % EPISODE == 0:
                env.reset(seed=repeat)
            begun = time.perf_counter()
            env.step(action)
            spent += time.perf_counter() - begun
        rates.append(steps / spent)
    return float(np.median(rates[1:]))
