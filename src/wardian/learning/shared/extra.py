"""Libraries of the extra `shared`, imported where they are used and nowhere else."""

import importlib
from typing import Any

from wardian.errors import ConfigError


def extra(module: str) -> Any:
    """Return `module` of pyarrow, duckdb or scikit-learn.

    Raises:
        ConfigError: it is not installed, or lacks something that it needs.
    """
    try:
        return importlib.import_module(module)
    except ImportError as err:
        library = module.partition(".")[0]
        if err.name == library:
            advice = f"{library} is not installed: pip install 'wardian[shared]'"
            raise ConfigError(advice) from err
        raise ConfigError(f"{library} cannot be imported: {err}") from err
