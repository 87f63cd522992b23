"""One evaluator for learning curves and final numbers: held-out starts, paired between policies, with intervals."""
