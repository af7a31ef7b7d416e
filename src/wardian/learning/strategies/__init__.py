"""How the answers of a round become the next model."""
