"""A LeRobot robot as an environment: armed by an operator, guarded at every action, recorded."""
