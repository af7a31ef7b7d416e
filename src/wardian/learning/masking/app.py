"""A party's app under masks: it trains as before, and what it answers says nothing by itself.

Whatever it is asked, its update leaves under masks alone. What it has to remember lies in the
context's state, which is written in one step with the answer and before that leaves: its update
until the round is over, and where it is in the protocol.
"""

from typing import Final

import numpy as np

from wardian._internal.consortium import Consortium
from wardian.crypto.masks import Ring
from wardian.crypto.secret import Secret
from wardian.crypto.signing import Signer
from wardian.errors import FormatError, PolicyDenied, SealError
from wardian.learning.app import Context, Handler
from wardian.learning.arrays import Array, ArrayRecord
from wardian.learning.masking.party import MaskingParty
from wardian.learning.masking.plan import MaskingPlan
from wardian.learning.masking.state import Stage, decode_state
from wardian.learning.masking.steps import FIRST, MASK_STEP, Step, asked_step, message_of
from wardian.learning.masking.vectors import ARRAYS, VectorForm, masking_plan
from wardian.learning.message import Message, MessageType
from wardian.learning.records import ConfigRecord, MetricRecord, Record, RecordDict

OURS: Final = "masking."
"""How the names of what is ours begin in the context's state."""
_UPDATE: Final = f"{OURS}update"
_PLACE: Final = f"{OURS}place"


class MaskedApp:
    """Wraps an app; called as one."""

    def __init__(self, app: Handler, plan: Consortium, *, signer: Signer) -> None:
        """Let `app` train.

        Args:
            app: answers what asks for training in the clear.
            plan: what the parties agreed to.
            signer: has the key that the plan names for this party.
        """
        self._app, self._plan, self._signer = app, plan, signer

    def __call__(self, message: Message, context: Context) -> Message:
        """Return the answer to `message`.

        Raises:
            PolicyDenied: it asks for anything but the first model or a step of a masked round; or
                for one that would give the update away (rule `mask-once`).
            FormatError: it is malformed, or the app's update does not fit the plan.
        """
        kind = message.metadata.message_type
        if kind is MessageType.QUERY and message.metadata.round == 0:
            return self._inner(message, context)
        if kind is not MessageType.TRAIN:
            raise PolicyDenied("the plan has masks: nothing is measured one by one", rule="masking")
        number, step, raw = asked_step(message.content)
        if step is FIRST:
            answer = self._begin(message, context, number)
        else:
            answer = self._go_on(message, context, number, step, raw)
        return Message(message_of(answer), reply_to=message)

    def _begin(self, message: Message, context: Context, number: int) -> bytes:
        """Train, unless the update of this round is there, and advertise keys for `number`."""
        about = message.metadata
        known, round_, stage, _ = _place(context)
        if number <= known:
            raise PolicyDenied("masking: a number that was used before", rule="mask-once")
        told = RecordDict({n: each for n, each in message.content.items() if n != MASK_STEP})
        form = VectorForm.of(self._plan, _arrays(told))
        plan = masking_plan(self._plan, form, run=bytes.fromhex(about.run), told=told)
        if round_ == about.round and stage is Stage.REVEALED:
            raise PolicyDenied("masking: this round's update was summed already", rule="mask-once")
        kept = context.state.get(_UPDATE)
        if round_ != about.round or not isinstance(kept, ArrayRecord) or _bound(kept) != plan.run:
            vector = self._train(Message(told, metadata=about), context, form)
            update: dict[str, Array] = {
                "vector": vector.view(np.int64),
                "bound": np.frombuffer(plan.run, np.uint8),
            }
            context.state[_UPDATE] = ArrayRecord(update)
        return self._party(plan, context, number, about.round, fresh=True).advertise()

    def _go_on(
        self, message: Message, context: Context, number: int, step: Step, raw: bytes
    ) -> bytes:
        known, round_, _, _ = _place(context)
        update = context.state.get(_UPDATE)
        if (number, message.metadata.round) != (known, round_) or not isinstance(
            update, ArrayRecord
        ):
            raise PolicyDenied("masking: not the round that this party is in", rule="mask-order")
        vector = update["vector"].view(np.uint64)
        plan = MaskingPlan(
            run=_bound(update),
            parties={name: bytes.fromhex(each.key) for name, each in self._plan.parties.items()},
            threshold=self._plan.run.quorum,
            elements=vector.size,
        )
        party = self._party(plan, context, number, round_)
        if step is Step.KEYS:
            return party.share(raw)
        if step is Step.DELIVERY:
            return party.mask(raw, vector)
        return party.sign(raw) if step is Step.SURVIVORS else party.reveal(raw)

    def _party(
        self, plan: MaskingPlan, context: Context, number: int, round_: int, *, fresh: bool = False
    ) -> MaskingParty:
        _, _, _, kept = _place(context)

        def keep(state: Secret) -> None:
            context.state[_PLACE] = ConfigRecord(
                {"number": number, "round": round_, "kept": state.reveal()}
            )

        return MaskingParty(
            plan, number=number, party=context.party, signer=self._signer, keep=keep,
            kept=None if fresh else kept,
        )  # fmt: skip

    def _train(self, message: Message, context: Context, form: VectorForm) -> Ring:
        content = self._inner(message, context).content
        metrics = content.metric_records.get("metrics", MetricRecord())
        return form.encode(_arrays(content), metrics)

    def _inner(self, message: Message, context: Context) -> Message:
        """Return the app's answer; what it keeps is beside what is kept here."""
        ours = {name: each for name, each in context.state.items() if name.startswith(OURS)}
        theirs: dict[str, Record] = {n: e for n, e in context.state.items() if n not in ours}
        inner = Context(
            party=context.party, run_config=context.run_config,
            node_config=context.node_config, state=theirs,
        )  # fmt: skip
        answer = self._app(message, inner)
        if answer.error is not None:
            raise FormatError(answer.error)
        if any(name.startswith(OURS) for name in inner.state):
            raise FormatError(f"the app's state has a name that begins with {OURS!r}")
        context.state = {**inner.state, **ours}
        return answer


def _arrays(content: RecordDict) -> ArrayRecord:
    found = content.get(ARRAYS)
    if not isinstance(found, ArrayRecord):
        raise FormatError(f"masking: the record {ARRAYS} is missing")
    return found


def _bound(update: ArrayRecord) -> bytes:
    return update["bound"].tobytes()


def _place(context: Context) -> tuple[int, int, Stage | None, Secret | None]:
    """Return number, round and stage of the newest masked round, and what was kept of it."""
    found = context.state.get(_PLACE)
    if not isinstance(found, ConfigRecord):
        return 0, 0, None, None
    number, round_, raw = found["number"], found["round"], found["kept"]
    if type(number) is not int or type(round_) is not int or not isinstance(raw, bytes):
        raise SealError("masking: what was kept is damaged")
    kept = Secret(raw)
    return number, round_, decode_state(kept).stage, kept
