"""What comes out of a job: sealed in memory, to each recipient alone, held until it is approved.

Every recipient has a file of its own. Whoever can open a sealed file could also change it for
others who can; so here nobody is given what another one could have changed.
"""

import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wardian._internal import wire
from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.parties import Recipient as Receiver
from wardian.broker.jobs.parties import recipients
from wardian.broker.jobs.plan import SERVING, JobPlan, plan_digest
from wardian.broker.jobs.rules import Rule
from wardian.crypto.recipients import BrokerKey, HpkeRecipient, Recipient
from wardian.crypto.sealed_file import Pin, seal_stream
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError, PolicyDenied

EXPORT: Final = "wardian job export v1"
VERSION: Final = 1
MEDIA_TYPES: Final[Mapping[str, str]] = {
    "model": "application/onnx",
    "metrics": "application/json",
    "aggregates": "text/csv",
}
_REFUSING: Final = {"model": Rule.MODEL, "metrics": Rule.METRICS, "aggregates": Rule.AGGREGATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedOutput:
    """One file for one recipient.

    Attributes:
        output: `model`, `metrics` or `aggregates`.
        to: what the plan calls the party; `serving`: the broker, for workers.
        name: that it opens under: the job's, a point, and `output`.
        media_type: likewise; the version is 1.
        pin: which file it is. No secret, and needed to open it.
        sealed_bytes: of the file.
    """

    output: str
    to: str
    name: str
    media_type: str
    pin: Pin
    sealed_bytes: int

    @property
    def file_name(self) -> str:
        """What the file is called."""
        return f"{self.output}.{self.to}.sealed"


def export_digest(plan: JobPlan, outputs: Iterable[tuple[str, str, str]]) -> bytes:
    """Return what is approved, 32 bytes: plan, recipients and pins. It tells nothing of contents.

    Args:
        plan: the job.
        outputs: of each file, in order: `output`, `to` and the pin as text.
    """
    parts = (part.encode() for each in outputs for part in each)
    return hashlib.sha256(wire.fields(EXPORT, plan_digest(plan), *parts)).digest()


class HeldOutputs:
    """Sealed outputs that nobody is given before they are approved."""

    __slots__ = ("_contents", "_digest", "outputs", "terms")

    def __init__(
        self, plan: JobPlan, terms: OutputTerms, files: Mapping[SealedOutput, bytes]
    ) -> None:
        """Hold `files` of the job `plan` on `terms`."""
        self.outputs = tuple(files)
        self._contents, self.terms = dict(files), terms
        files_said = ((each.output, each.to, str(each.pin)) for each in self.outputs)
        self._digest = export_digest(plan, files_said)

    @property
    def digest(self) -> bytes:
        """What is approved; see `export_digest`."""
        return self._digest

    def contents(self) -> Iterable[tuple[SealedOutput, bytes]]:
        """Return every file with its content, for whoever keeps them sealed once more."""
        return self._contents.items()

    def release(self, approved: Collection[str]) -> Mapping[str, bytes]:
        """Return every sealed file by its name.

        Args:
            approved: public keys in hex, whose signatures over `digest` were verified.

        Raises:
            PolicyDenied: the rule `export-approvals`: too few. They stay held.
        """
        self.terms.refuse_unapproved(approved)
        return {each.file_name: content for each, content in self._contents.items()}


def seal_outputs(
    plan: JobPlan,
    terms: OutputTerms,
    results: Mapping[str, bytes],
    *,
    serving: Secret | None = None,
) -> HeldOutputs:
    """Return `results` sealed, each to exactly those whom the plan names.

    Args:
        plan: the job.
        terms: of all owners, who have to name every recipient, with the key that it is sealed to.
        results: by output; those that nobody receives are not sealed at all.
        serving: a fresh broker key, 32 bytes, for the model that goes to be served.

    Raises:
        PolicyDenied: the rules `output-model`, `output-metrics`, `output-aggregates` or
            `output-serving`: somebody is not named.
        LocalProtocolError: what the plan gives out is not among the results, or there is no key.
    """
    files: dict[SealedOutput, bytes] = {}
    for output in MEDIA_TYPES:
        allowed: frozenset[Receiver] = getattr(terms, output)
        for name in sorted(getattr(plan.outputs, output)):
            (receiver,) = recipients((name,), plan.parties)
            if receiver not in allowed:
                raise PolicyDenied(f"{name} would receive {output}", rule=_REFUSING[output])
            to = HpkeRecipient(bytes.fromhex(receiver.seal_to))
            files |= _sealed(plan, output, name, results, to)
    if plan.outputs.serving:
        if not plan.outputs.serving <= terms.serving:
            raise PolicyDenied("other code would serve the model", rule=Rule.SERVING)
        if serving is None:
            raise LocalProtocolError("a model that is served needs a key")
        files |= _sealed(plan, "model", SERVING, results, BrokerKey(serving))
    return HeldOutputs(plan, terms, files)


def _sealed(
    plan: JobPlan, output: str, to: str, results: Mapping[str, bytes], recipient: Recipient
) -> dict[SealedOutput, bytes]:
    """Return one output for one party, and its sealed file."""
    if output not in results:
        raise LocalProtocolError(f"the trainer gave no {output}")
    content, sealed = results[output], io.BytesIO()
    name = plan.output_name(output)
    pin = seal_stream(
        io.BytesIO(content),
        sealed,
        total_bytes=len(content),
        recipients=[recipient],
        media_type=MEDIA_TYPES[output],
        name=name,
        version=VERSION,
    )
    raw = sealed.getvalue()
    entry = SealedOutput(
        output=output,
        to=to,
        name=name,
        media_type=MEDIA_TYPES[output],
        pin=pin,
        sealed_bytes=len(raw),
    )
    return {entry: raw}
