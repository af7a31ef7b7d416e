"""The paths of Analytics Zoo Cluster Serving's HTTP front ends, where the owners agreed on them."""
