"""The demonstrator's posterior: what the demonstrations leave open about his actions."""
