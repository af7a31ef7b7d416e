"""Workers as jobs of Flink, on a cluster of our own or on one that is there."""
