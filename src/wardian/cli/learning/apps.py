"""Which app answers in a run: the one that its plan needs."""

from wardian._internal.consortium import Consortium
from wardian.crypto.signing import Signer
from wardian.errors import ConfigError
from wardian.learning.app import ClientApp, Handler
from wardian.learning.party.planned import planned_app
from wardian.learning.party.resident import Outcome, told_model
from wardian.learning.vertical.app import ColumnsApp


def taking_part(
    app: ClientApp | ColumnsApp, plan: Consortium, *, name: str, signer: Signer
) -> tuple[Handler, Outcome]:
    """Return what answers as `name` in a run of `plan`, and what says what it has in the end.

    Raises:
        ConfigError: `app` is not of the kind that the plan needs.
    """
    if isinstance(app, ColumnsApp):
        party = app.party(plan, name=name, signer=signer)
        return party, party.outcome
    if plan.strategy is None:
        raise ConfigError("the plan has columns, and no strategy: it needs a ColumnsApp")
    return planned_app(app, plan, signer=signer), told_model
