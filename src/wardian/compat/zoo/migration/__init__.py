"""From Cluster Serving's files to a directory for `wardian up`."""
