"""Posterior behavioural cloning: robot policies that are pretrained to be finetuned."""

__version__ = "0.1.0"
