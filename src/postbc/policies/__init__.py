"""Generative policies: chunks of actions from an observation and a latent noise."""
