"""A mesh at a glance: what there is, and what deserves a warning. For screens, and pure."""
