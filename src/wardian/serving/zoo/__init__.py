"""Analytics Zoo Cluster Serving: its wire formats, and the role that serves its Redis."""
