"""Reinforcement learning that improves a pretrained policy, on a simulator or on a robot."""
