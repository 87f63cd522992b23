"""What LeRobot imports at start-up, so that its commands know postbc's policy, tasks and twin."""
