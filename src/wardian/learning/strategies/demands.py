"""What constructors of strategies demand of their settings."""

from math import isfinite

from wardian.errors import ConfigError


def real(name: str, value: object, *, above: float, below: float | None = None) -> float:
    """Return `value` if it is a number between `above` and `below`, the ends not included.

    Raises:
        ConfigError: it is not; names the setting.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ConfigError(f"strategy: {name}: no finite number")
    if value <= above or (below is not None and value >= below):
        end = "" if below is None else f" and below {below}"
        raise ConfigError(f"strategy: {name}: {value} is not above {above}{end}")
    return float(value)


def share(name: str, value: object) -> float:
    """Return `value` if it is a number from 0 to below 1; errors as `real`."""
    return (
        0.0 if value == 0 and not isinstance(value, bool) else real(name, value, above=0, below=1)
    )


def whole(name: str, value: object, *, least: int, most: int) -> int:
    """Return `value` if it is a whole number from `least` to `most`; errors as `real`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"strategy: {name}: no whole number from {least} to {most}")
    return value
