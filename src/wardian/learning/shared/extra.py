"""Libraries that jobs train and read with, imported where they are used and nowhere else.

PyTorch is in no extra: how it is built for which machine is for those who set up jobs to choose.
"""

import importlib
from typing import Any

from wardian.errors import ConfigError


def extra(module: str) -> Any:
    """Return `module` of pyarrow, duckdb, scikit-learn, xgboost or torch.

    Raises:
        ConfigError: it is not installed, or lacks something that it needs.
    """
    try:
        return importlib.import_module(module)
    except ImportError as err:
        library = module.partition(".")[0]
        if err.name == library:
            wanted = library if library == "torch" else "'wardian[shared]'"
            raise ConfigError(f"{library} is not installed: pip install {wanted}") from err
        raise ConfigError(f"{library} cannot be imported: {err}") from err
