"""Scripted people: their habits, their plans, their hands, and what they record."""
