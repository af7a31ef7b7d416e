"""What a party refuses of a coordinator: each function returns if there is nothing to refuse.

Every refusal is a `PolicyDenied` with one of the rules `mask-roster` (strangers, somebody missing
or twice), `mask-threshold` (too few), `mask-survivors` (a list that is not to be signed) and
`mask-round` (another run, plan or round), or an `AuthenticationFailed` (a wrong signature).
"""

from collections.abc import Collection, Sequence, Sized

from wardian.crypto.signing import verify_signature
from wardian.errors import AuthenticationFailed, PolicyDenied
from wardian.learning.masking.messages import (
    Advertisement,
    Agreements,
    Delivery,
    Keys,
    advertisement_signed_bytes,
    survivors_signed_bytes,
)
from wardian.learning.masking.plan import MaskingPlan


def verify_advertisement(message: Advertisement, plan: MaskingPlan) -> None:
    """Return if the party that the plan names made this advertisement."""
    plan.index(message.party)
    _verify_by(
        message.party, plan, message.signature, advertisement_signed_bytes(message), what="keys"
    )


def verify_keys(keys: Keys, *, own: Advertisement, plan: MaskingPlan) -> None:
    """Return if these are the keys of enough parties of the roster, with `own` among them.

    Args:
        keys: message 2.
        own: what this party advertised; its signature does not matter.
        plan: what everybody agreed to.
    """
    names = [each.party for each in keys.advertisements]
    verify_names(names, among=plan.parties, what="keys")
    verify_enough(names, plan=plan, what="keys")
    signed = [advertisement_signed_bytes(each) for each in keys.advertisements]
    if advertisement_signed_bytes(own) not in signed:
        raise PolicyDenied("masking: keys: this party's own are missing", rule="mask-roster")
    for each in keys.advertisements:
        if each.scope != keys.scope:
            raise PolicyDenied("masking: keys: of another run or round", rule="mask-round")
        verify_advertisement(each, plan)


def verify_delivery(
    delivery: Delivery, *, own: str, known: Collection[str], plan: MaskingPlan
) -> None:
    """Return if this was dealt by enough of those whose keys are `known`; `own` dealt itself."""
    names = [dealt.party for dealt in delivery.dealt]
    verify_names(names, among=set(known) - {own}, what="delivery")
    verify_enough([own, *names], plan=plan, what="delivery")


def verify_survivors(
    survivors: Sequence[str], *, own: str, dealers: Collection[str], plan: MaskingPlan
) -> None:
    """Return if this list is one to sign: with `own`, of enough, of `dealers` alone."""
    verify_names(survivors, among=dealers, what="survivors")
    if own not in survivors:
        raise PolicyDenied("masking: survivors without this party", rule="mask-survivors")
    verify_enough(survivors, plan=plan, what="survivors")


def verify_agreements(
    agreements: Agreements, *, survivors: Sequence[str], keys_digest: bytes, plan: MaskingPlan
) -> None:
    """Return if enough of `survivors` have signed exactly this list."""
    names = [each.party for each in agreements.signatures]
    verify_names(names, among=survivors, what="agreements")
    verify_enough(names, plan=plan, what="agreements")
    signed = survivors_signed_bytes(scope=agreements.scope, keys=keys_digest, parties=survivors)
    for each in agreements.signatures:
        verify_agreement(each.party, each.signature, signed, plan)


def verify_agreement(party: str, signature: bytes, signed: bytes, plan: MaskingPlan) -> None:
    """Return if `party` signed exactly `signed`, which is of `survivors_signed_bytes`."""
    _verify_by(party, plan, signature, signed, what="agreement")


def verify_names(names: Sequence[str], *, among: Collection[str], what: str) -> None:
    """Return if `names` are some of `among`, in their order, each once."""
    if list(names) != sorted(set(names)):
        raise PolicyDenied(
            f"masking: {what}: a name twice, or not in their order", rule="mask-roster"
        )
    if not set(among) >= set(names):
        raise PolicyDenied(f"masking: {what}: of a stranger", rule="mask-roster")


def verify_enough(came: Sized, *, plan: MaskingPlan, what: str) -> None:
    """Return if those who came are as many as the threshold."""
    if len(came) < plan.threshold:
        raise PolicyDenied(
            f"masking: {what}: {len(came)} are fewer than the {plan.threshold} that it takes",
            rule="mask-threshold",
        )


def _verify_by(
    party: str, plan: MaskingPlan, signature: bytes, signed: bytes, *, what: str
) -> None:
    try:
        verify_signature(plan.parties[party], signature, signed)
    except AuthenticationFailed as err:
        raise AuthenticationFailed(f"masking: {what}: not signed by {party}") from err
