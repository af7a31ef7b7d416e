"""`wardian bench`: how fast does a mesh answer?"""

from wardian.cli.bench.group import bench

__all__ = ["bench"]
