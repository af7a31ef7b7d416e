"""What `wardian serve`, `wardian migrate` and `cluster-serving-start` have in common."""
