"""What a party answers with: its app, and around it what the plan demands."""

from wardian._internal.consortium import Consortium
from wardian.crypto.signing import Signer
from wardian.learning.app import Handler
from wardian.learning.masking.app import MaskedApp


def planned_app(app: Handler, plan: Consortium, *, signer: Signer) -> Handler:
    """Return `app` as `plan` has it: under masks, if it names them.

    Args:
        app: the party's own.
        plan: what the parties agreed to.
        signer: has the key that the plan names for this party.
    """
    return app if plan.masking is None else MaskedApp(app, plan, signer=signer)
