"""A party: it verifies the coordinator, answers, and remembers what it has seen."""
