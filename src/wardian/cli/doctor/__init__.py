"""`wardian doctor`: what this machine can do, and what is missing, on one screen."""

from wardian.cli.doctor.command import doctor

__all__ = ["doctor"]
