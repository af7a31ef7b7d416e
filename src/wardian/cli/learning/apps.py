"""Which app answers in a run: the one that its plan needs."""

from wardian._internal.consortium import Consortium
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError
from wardian.learning.app import App, ClientApp
from wardian.learning.vertical.app import ColumnsApp


def app_for(given: ClientApp | ColumnsApp, plan: Consortium, *, name: str, signer: Signer) -> App:
    """Return what answers as `name` in a run of `plan`.

    Raises:
        ConfigError: `given` is not of the kind that the plan needs.
    """
    if isinstance(given, ColumnsApp):
        return given.party(plan, name=name, signer=signer)
    if plan.strategy is None:
        raise ConfigError("the plan has columns, and no strategy: it needs a ColumnsApp")
    return given
