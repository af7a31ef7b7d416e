"""Analytics Zoo Cluster Serving (0.9 to 0.11, BigDL 2.x): its settings, read and carried over."""
