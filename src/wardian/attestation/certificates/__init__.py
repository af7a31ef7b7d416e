"""Certificates of the platforms' vendor: its root, the form of a chain, who signed what."""
