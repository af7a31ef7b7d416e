"""Errors as they are: whoever gets them has every label. For tests of the arithmetic alone."""

from typing import Any

from numpy.typing import NDArray


class UnsafeNoNoise:
    """Protects nothing."""

    def protect(self, errors: NDArray[Any], *, look: int, number: int) -> NDArray[Any]:  # noqa: ARG002
        """Return `errors`."""
        return errors
