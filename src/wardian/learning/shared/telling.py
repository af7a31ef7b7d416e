"""What a finished job tells the broker before anything of it leaves: see `broker.exports`."""

import hashlib
import io
from collections.abc import Iterable

from wardian.broker.exports.statement import ExportedTable, ExportStatement
from wardian.broker.jobs.plan import SERVING
from wardian.broker.joint.masked import MaskedKey
from wardian.broker.joint.record import ModelFile
from wardian.crypto.sealed_stream import read_header
from wardian.errors import LocalProtocolError
from wardian.learning.shared.outputs import SealedOutput
from wardian.learning.shared.report import as_json
from wardian.learning.shared.running import Finished


def export_statement(
    finished: Finished, approved: Iterable[str], *, serving: MaskedKey | None
) -> ExportStatement:
    """Return what the job tells of what came out of it.

    Args:
        finished: the job.
        approved: public keys in hex, whose signatures over the export's digest were verified.
        serving: the key of the model that goes to be served; None where none does.

    Raises:
        LocalProtocolError: a model is to be served and there is no key, or the other way round.
    """
    report, held = finished.report, finished.held
    tables = [
        ExportedTable(
            owner=each["owner_key"],
            table=each["table"],
            serial=each["policy_serial"],
            rule=each["rule"],
        )
        for each in report["tables"]
    ]
    served = [(each, content) for each, content in held.contents() if each.to == SERVING]
    if len(served) != (0 if serving is None else 1):
        raise LocalProtocolError("a model that is served and its key go together")
    return ExportStatement(
        job=report["job_id"],
        export=held.digest.hex(),
        report=hashlib.sha256(as_json(report)).hexdigest(),
        tables=tuple(sorted(tables, key=lambda each: each.place)),
        approvers=tuple(sorted(set(approved))),
        served=None if serving is None else describe_served(*served[0], key_id=serving.key_id),
    )


def describe_served(sealed: SealedOutput, content: bytes, *, key_id: str) -> ModelFile:
    """Return the model that is served, as the broker and an owner's line name it.

    Args:
        sealed: the output that is to be served.
        content: the file, which is that.
        key_id: of the key that it is sealed to, in hex.

    Raises:
        LocalProtocolError: it is given to somebody else, or the file is another one.
        FormatError: `content` is no sealed file.
    """
    header = read_header(io.BytesIO(content))
    if sealed.to != SERVING or header.digest != sealed.pin.header_digest:
        raise LocalProtocolError("this is not the file of the model that is served")
    return ModelFile(
        name=header.fields.name,
        version=header.fields.version,
        media_type=header.fields.media_type,
        pin=str(sealed.pin),
        key_id=key_id,
        total_bytes=header.fields.total_bytes,
    )
