"""A progress bar for long work: on a terminal a bar, elsewhere only its label."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int, *, err: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar of `length` units; yield what moves it by so many units.

    Args:
        label: what is being done.
        length: how many units there are.
        err: show it on stderr, where stdout is for a program to read.
    """
    stream = sys.stderr if err else sys.stdout
    with click.progressbar(length=length, label=label, width=32, file=stream) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
