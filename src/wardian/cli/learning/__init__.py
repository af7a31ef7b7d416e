"""Commands of federated learning: the coordinator, and a party."""
