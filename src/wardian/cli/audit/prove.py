"""`wardian audit prove`: a file that shows, without a broker, that lines are in the log."""

import asyncio
from pathlib import Path

import click

from wardian._internal.clock import unix_time
from wardian.broker.audit_log.asking import Asked
from wardian.broker.audit_log.auditing import find_lines
from wardian.broker.transparency.heads import SignedHead
from wardian.broker.transparency.proofs import MAX_LINES, ProofRequest
from wardian.broker.transparency.records import AuditProof, verify_proof
from wardian.cli.audit.files import load_memory, save_record
from wardian.cli.audit.lines import row
from wardian.cli.audit.source import Source, file, log_refused, source_options
from wardian.errors import ConfigError


@click.command()
@click.argument("sequence", type=click.IntRange(1), required=False)
@click.option("--key-id", help="Instead of a number: the newest lines about this key.")
@source_options
@click.option("--head", type=file, help="Prove it against the head remembered here.")
@click.option("--out", type=file, required=True, help="Where to write the proof.")
def prove(
    *, sequence: int | None, key_id: str | None, source: Source, head: Path | None, out: Path
) -> None:
    """Prove that line number SEQUENCE, or lines about a key, are in the log.

    The proof is against the broker's newest head, or with --head against one that was seen before.
    `wardian audit verify --proof` verifies it anywhere.
    """
    if (sequence is None) == (key_id is None):
        raise ConfigError("name a line's number, or a key with --key-id: one of the two")
    with log_refused():
        asked, seen = source.asked(unix_time), _remembered(head)
        proof = asyncio.run(
            _proof(asked, sequence, seen=seen)
            if sequence is not None
            else _proof_of(asked, key_id or "", seen=seen)
        )
        shown = verify_proof(proof, ca_spki=source.ca_spki)
    save_record(out, proof)
    for line in shown:
        click.echo(row(line))
    click.echo(f"\nProof in {out}, against the log's first {proof.head.audit.count} lines.")
    click.echo(source.ca_said)


def _remembered(head: Path | None) -> SignedHead | None:
    if head is None:
        return None
    known = load_memory(head).known
    if not known:
        raise ConfigError(f"{head}: remembers no head yet; run `wardian audit verify --head` first")
    return known[0]


async def _proof(asked: Asked, sequence: int, *, seen: SignedHead | None) -> AuditProof:
    """Return the proof of a line in the tree of a head that was seen, or of the newest."""
    head = seen or (await asked.status()).witnessed.head
    return await _of_lines(asked, (sequence,), head=head)


async def _proof_of(asked: Asked, key_id: str, *, seen: SignedHead | None) -> AuditProof:
    """Likewise of the newest lines about a key, none of which can be left out."""
    newest, lines = await find_lines(
        asked, lambda line: line.entry.key_id == key_id, most=MAX_LINES
    )
    if not lines:
        raise ConfigError(f"--key-id {key_id}: the log has no line about this key")
    return await _of_lines(asked, lines, head=seen or newest)


async def _of_lines(asked: Asked, lines: tuple[int, ...], *, head: SignedHead) -> AuditProof:
    proofs = await asked.proofs(ProofRequest(lines=lines, size=head.audit.count))
    return AuditProof(mesh_ca=proofs.mesh_ca, head=head, lines=proofs.lines)
