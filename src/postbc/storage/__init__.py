"""Files that are either whole or absent: atomic writes, manifests, checkpoints. Knows nothing of robots."""
