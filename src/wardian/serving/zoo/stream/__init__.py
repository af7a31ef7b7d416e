"""The streams of their Redis: records read, answered by workers, and written as results."""
