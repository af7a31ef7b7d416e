"""The wire formats of Analytics Zoo Cluster Serving, read and written: no socket, no clock."""
