"""Libraries of the extra `shared`, imported where they are used and nowhere else."""

import importlib
from typing import Any

from wardian.errors import ConfigError


def extra(module: str) -> Any:
    """Return `module` of pyarrow, duckdb or scikit-learn.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as err:
        library = module.partition(".")[0]
        raise ConfigError(f"{library} is not installed: pip install 'wardian[shared]'") from err
