"""Demonstrations: recorded files in, a checked Zarr store, LeRobotDataset out, frames in memory."""
