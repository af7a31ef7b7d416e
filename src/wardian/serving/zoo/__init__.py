"""Analytics Zoo Cluster Serving: its wire formats, and below `stream` the service of its Redis."""
