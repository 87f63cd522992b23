"""Prefect flows generated from dvc.yaml: DVC owns graph and cache, Prefect runs and approvals."""

from flows.environment import be_quiet_and_local

be_quiet_and_local()  # before anything here imports Prefect, which reads its settings on import
