"""What the operator says about the versions of models, for a front end."""

from wardian._internal import settings
from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian.cli.state import StateDir
from wardian.errors import ConfigError


def find_traffic(state: StateDir, operator: Operator) -> dict[str, dict[str, int]]:
    """Return how the requests for each model are divided over its versions.

    Raises:
        ConfigError: wardian.toml has no such model; says on which line.
    """
    if operator.models and state.agreed.exists():
        known = settings.load(state.agreed, Agreed).models
        for name in operator.models:
            if name not in known:
                line = settings.line_of(["models", name], settings.read(state.operator))
                raise ConfigError(
                    f"{state.operator}, line {line}: wardian.toml has no model {name!r}; it has: "
                    f"{', '.join(sorted(known))}"
                )
    return {name: place.traffic for name, place in operator.models.items() if place.traffic}
