"""The queue between front ends and workers: the seam, and the embedded one on a socket."""
