"""Gradient-boosted trees over columns that different parties have."""
