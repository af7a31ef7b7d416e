"""Differential privacy: what a round publishes tells next to nothing of any single party."""
