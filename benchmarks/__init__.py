"""Measurements that the documentation quotes: `make bench-…` prints a table and writes benchmarks/results/."""
