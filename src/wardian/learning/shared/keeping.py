"""What a job keeps on the host's disk: whose debit it runs on, and what it holds until it is out.

    salt.sealed  a secret of which its salt comes, by which its debit is found again if the answer
                 is lost; written before it asks
    job          the id of its debit, public: a job that died asks for the same tables by it
    held.sealed  once it trained: every sealed output, and what has to hold before they are given

A host that loses the first two makes the job be debited anew; one that loses the third has it train
again. One that puts back an older state of this directory has what that job held: the same files.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from typing_extensions import override

from wardian._internal import wire
from wardian._internal.files import open_regular, replace_file, sync_directory
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.broker.joint.masked import MaskedKey
from wardian.broker.keeping.sealing import Sealing
from wardian.broker.message_fields import Key32
from wardian.broker.session.shown import KnownBroker
from wardian.broker.tables.protocol import JOB_ID_BYTES, SALT_BYTES
from wardian.broker.tables.terms import TermsRecord, terms_of, terms_record
from wardian.crypto.kdf import hkdf
from wardian.crypto.sealed_header import Pin
from wardian.crypto.secret import Secret
from wardian.errors import FormatError, SealError
from wardian.learning.shared.outputs import HeldOutputs, SealedOutput
from wardian.learning.shared.report import as_json
from wardian.learning.shared.running import Finished

LABEL: Final = "wardian job held v1"
SALT_LABEL: Final = "wardian job salt v1"
_MOST_SMALL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a job that trained holds until it is out.

    Attributes:
        finished: what came out.
        serving: the key of a model that is to be served, masked; None where none is.
        broker: that has to be told first.
    """

    finished: Finished
    serving: MaskedKey | None
    broker: KnownBroker


class _Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    output: str
    to: str
    name: str
    media_type: str
    pin: str
    content: bytes


class _Held(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    plan: Key32
    terms: TermsRecord
    outputs: list[_Output]
    report: bytes
    serving: MaskedKey | None
    broker: KnownBroker

    @override
    def __repr__(self) -> str:
        return f"_Held({self.plan.hex()})"  # never what it holds


class JobKeeper:
    """Keeps one job in a directory of its own."""

    __slots__ = ("_held", "_id", "_place", "_plan", "_salt", "_sealing")

    def __init__(self, place: Path, *, plan: JobPlan, sealing: Sealing) -> None:
        """Keep the job `plan` in the directory `place`, which is there."""
        self._place, self._plan, self._sealing = place, plan, sealing
        self._salt, self._id = place / "salt.sealed", place / "job"
        self._held = place / "held.sealed"

    def salt(self, contents: bytes) -> bytes:
        """Return what this job asks with over files of these `contents`, 16 bytes.

        It is no secret, but what it comes of is. Whoever knew that could look for two contents with
        one salt; so each is another debit, whose noise is its own.

        Args:
            contents: `fixed.digest_of` them, where noise is made; else nothing.

        Raises:
            SealError: there is no secret yet, and the disk does not take one; or it cannot be read,
                which is not taken for that: another one costs budgets.
        """
        info = wire.fields(SALT_LABEL, contents)
        return hkdf(self._secret(), salt=b"", info=info, length=SALT_BYTES).reveal()

    def _secret(self) -> Secret:
        """Return what this job chose before it asked for the first time, 32 bytes."""
        raw = _read_if_there(self._salt)
        if raw is not None:
            with contextlib.suppress(SealError):
                return Secret(self._sealing.unseal(raw, label=SALT_LABEL))
        found = Secret.random()
        self._write(self._salt, self._sealing.seal(found.reveal(), label=SALT_LABEL))
        return found

    def job_id(self, salt: bytes) -> bytes | None:
        """Return the id of the debit that this job runs on, with this `salt`, if there is one.

        It is the host's word: one that is of other contents, or of another job, is as if it were
        lost; a wrong one is refused by the broker, which made none like it.

        Raises:
            SealError: it cannot be read.
        """
        raw = _read_if_there(self._id) or b""
        with contextlib.suppress(ValueError):
            found = bytes.fromhex(raw.decode().strip())
            return found if len(found) == JOB_ID_BYTES and found.startswith(salt) else None
        return None

    def keep_id(self, job_id: bytes) -> None:
        """Remember that the job runs on the debit `job_id`.

        Raises:
            SealError: the disk does not take it.
        """
        self._write(self._id, f"{job_id.hex()}\n".encode())

    def keep(self, trained: Held) -> None:
        """Keep what the job holds from now on.

        Raises:
            SealError: the disk does not take it.
        """
        held = trained.finished.held
        record = _Held(
            plan=plan_digest(self._plan),
            terms=terms_record(held.terms),
            outputs=[
                _Output(
                    output=each.output,
                    to=each.to,
                    name=each.name,
                    media_type=each.media_type,
                    pin=str(each.pin),
                    content=content,
                )
                for each, content in held.contents()
            ],
            report=as_json(trained.finished.report),  # in its order: its digest is told
            serving=trained.serving,
            broker=trained.broker,
        )
        sealed = self._sealing.seal(msgspec.msgpack.encode(record), label=LABEL)
        self._write(self._held, sealed)

    def load(self) -> Held | None:
        """Return what the job holds; None: it has not trained yet.

        Raises:
            SealError: what lies there was not sealed by this code on this machine, or is of
                another job.
        """
        try:
            raw = self._sealing.unseal(_read(self._held), label=LABEL)
            record = msgspec.msgpack.decode(raw, type=_Held)
            report: Mapping[str, Any] = msgspec.json.decode(record.report)
        except FileNotFoundError:
            return None
        except (OSError, MemoryError, msgspec.DecodeError, FormatError) as err:
            raise SealError("what the job held is damaged") from err
        if record.plan != plan_digest(self._plan):
            raise SealError("what is held here is of another job")
        held = HeldOutputs(self._plan, terms_of(record.terms), dict(map(_entry, record.outputs)))
        finished = Finished(held=held, report=report)
        return Held(finished=finished, serving=record.serving, broker=record.broker)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            replace_file(path, content, sync=True)
            sync_directory(self._place)
        except OSError as err:
            raise SealError(f"the state of the job cannot be written: {err.strerror}") from err


def _read_if_there(path: Path) -> bytes | None:
    """Return what is in the small file `path`; None if there is none.

    Raises:
        SealError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(_MOST_SMALL_BYTES)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise SealError(f"state of the job: {path.name} cannot be read: {err.strerror}") from err


def _read(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def _entry(kept: _Output) -> tuple[SealedOutput, bytes]:
    entry = SealedOutput(
        output=kept.output,
        to=kept.to,
        name=kept.name,
        media_type=kept.media_type,
        pin=Pin.parse(kept.pin),
        sealed_bytes=len(kept.content),
    )
    return entry, kept.content
