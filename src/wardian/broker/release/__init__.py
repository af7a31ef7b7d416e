"""One release: four messages, their two ends, and what they decide."""
