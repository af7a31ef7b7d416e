"""Gradient-boosted trees of parties who each have records of their own."""
