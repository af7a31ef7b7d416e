"""`wardian attest`: look at evidence, judge it, and see why."""

from wardian.cli.attest.group import attest

__all__ = ["attest"]
