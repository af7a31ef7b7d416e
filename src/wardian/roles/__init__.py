"""The measured entry points: each composes one process out of the rooms."""
