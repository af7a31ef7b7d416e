"""Monotonic counters that the broker keeps for others, and a quorum of such brokers."""
