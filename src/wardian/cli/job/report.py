"""`wardian job report`, `approve`, `result`: what a job vouches for, and who uses it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import click
import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.files import replace_file
from wardian._internal.settings import read
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.fields import Hex32
from wardian.broker.mesh.verify import verify_manifest_for
from wardian.cli.files import path_option, read_secret
from wardian.cli.job.directory import JobDir
from wardian.cli.job.run import ROLE, directory_argument
from wardian.cli.mesh.files import existing, read_agreed, read_manifest
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import HpkeIdentity
from wardian.crypto.sealed_file import Pin, open_file
from wardian.errors import AttestationError, ConfigError, EvidenceInvalid, FormatError
from wardian.learning.shared.approvals import sign_approval
from wardian.learning.shared.outbox import EVIDENCE, REPORT, report_evidence_data
from wardian.learning.shared.report import FORMAT, as_html

F = TypeVar("F", bound=Callable[..., Any])
MOST_BYTES = 4 * 1024 * 1024
"""Of a report, and of evidence."""


class _Output(msgspec.Struct, frozen=True, kw_only=True):
    output: str
    to: str
    file: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,200}\Z")]
    name: str
    media_type: str
    pin: str


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a report; the rest of it is for people."""

    format: str
    mesh: str
    plan_digest: Hex32
    export_digest: Hex32
    outputs: list[_Output]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A report that a job's enclave vouches for.

    Attributes:
        job: the directory that it lies in.
        plan: that it ran.
        report: all of it, to show.
        said: the part that is used.
        result: of its evidence.
        manifest: by which that was appraised.
    """

    job: JobDir
    plan: JobPlan
    report: Mapping[str, Any]
    said: _Said
    result: AttestationResult
    manifest: Path


def vouched(job: JobDir, *, agreed: Path, manifest: Path) -> Vouched:
    """Return the report of `job`, whose evidence is of code that the manifest lists for a job.

    Args:
        job: its directory, or a copy of it: the host's word, as far as nothing here proves it.
        agreed: the mesh's wardian.toml.
        manifest: that the owners signed.

    Raises:
        ConfigError: there is no report yet.
        AttestationError, PolicyDenied: the report is not of code that is accepted as a job.
        FormatError: it is none.
        EvidenceInvalid: it is of another plan than the one in the directory.
    """
    if not (job.out / REPORT).is_file():
        raise ConfigError(f"{job.root}: has no report yet; see `wardian job status`")
    raw = read(job.out / REPORT, limit_bytes=MOST_BYTES)
    evidence = wire.decode(
        read(job.out / EVIDENCE, limit_bytes=MOST_BYTES), Evidence, what="evidence of the report"
    )
    _, settings = read_agreed(agreed)
    signed, _ = read_manifest(manifest)
    verified = verify_manifest_for(signed, agreed=settings)
    try:
        result = verify_evidence(
            evidence,
            policy=appraisal_policy(verified.manifest, ROLE),
            report_data=report_evidence_data(raw),
            now=unix_time(),
        )
    except AttestationError as err:
        raise type(err)(f"{job.out / EVIDENCE} does not vouch for the report: {err}") from err
    said = wire.decode(raw, _Said, what="report of a job")
    plan = job.plan
    if said.format != FORMAT or said.mesh != settings.mesh.name:
        raise FormatError("the report is of another format, or of another mesh")
    if said.plan_digest != plan_digest(plan).hex():
        raise EvidenceInvalid(f"the report is of another plan than {job.root / 'job.toml'}")
    return Vouched(
        job=job,
        plan=plan,
        report=wire.decode(raw, dict[str, Any], what="report of a job"),
        said=said,
        result=result,
        manifest=manifest,
    )


def vouched_options(command: F) -> F:
    """Give `command` a job's report, once it is verified, as `found`."""

    @click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Your state directory of the mesh: by its word the report is verified.",
    )
    @click.option("--agreed", type=existing, help="The mesh's wardian.toml; default: --state's.")
    @click.option("--manifest", type=existing, help="That is in force; default: --state's.")
    @directory_argument
    @wraps(command)
    def with_report(
        *,
        directory: Path,
        state: Path | None,
        agreed: Path | None,
        manifest: Path | None,
        **options: object,
    ) -> None:
        job = JobDir.open(directory)
        agreed, manifest = job.trusted(state, agreed, manifest)
        command(found=vouched(job, agreed=agreed, manifest=manifest), **options)

    return with_report  # type: ignore[return-value]


@click.command()
@vouched_options
@click.option("--json", "as_json", is_flag=True)
@click.option("--html", type=path_option, help="Write a page to read here.")
def report(*, found: Vouched, as_json: bool, html: Path | None) -> None:
    """Verify what the job in DIRECTORY reports, and show it.

    The report says what was used, by which measured code, under whose rule, and what came out. It
    comes with evidence of the enclave that made it, which is verified against the owners' manifest.
    """
    claims = found.result.claims
    if html is not None:
        replace_file(html, as_html(found.report))
    if as_json:
        click.echo(wire.encode(found.report))
        return
    simulated = "SIMULATED, " if claims.simulated else ""
    lines = [
        f"{found.plan.name}: {found.plan.train.algorithm}, purpose {found.plan.purpose}",
        f"made by {claims.measurement.hex()} ({simulated}as the owners' manifest lists)",
        *(
            f"used  {each['owner']}'s {each['table']}: {', '.join(each['columns'])}; "
            f"rule {each['rule']} of policy {each['policy_serial']}"
            for each in found.report["tables"]
        ),
        *(f"out   {each.output} to {each.to}, {each.file}" for each in found.said.outputs),
        f"rows  {'not told' if found.report['rows'] is None else found.report['rows']}",
        f"job id {found.report['job_id']}",
        f"export {found.said.export_digest}",
    ]
    for line in lines:
        click.echo(wire.printable(line))


@click.command()
@vouched_options
@click.option("--key", type=existing, required=True, help="Your key as an owner.")
@click.option("--passphrase-file", type=path_option, help="Its first line opens the key.")
@click.option("-o", "--output", type=path_option, help="Default: among the job's approvals.")
def approve(
    *, found: Vouched, key: Path, passphrase_file: Path | None, output: Path | None
) -> None:
    """Approve that what came out of the job in DIRECTORY leaves, after its report was verified.

    Signs which sealed files go to whom, and nothing else: no other run is approved by it. Bring it
    to the operator, unless the directory is on this machine.
    """
    signer = read_owner_key(key, passphrase_file)
    asked = {each for terms in found.report["terms"]["approvals"] for each in terms["of"]}
    if signer.public.hex() not in asked:
        raise ConfigError(f"{key}: nobody asks for the approval of this key")
    export = bytes.fromhex(found.said.export_digest)
    approval = sign_approval(export, signer, mesh=found.said.mesh)
    target = output or found.job.approvals / f"{signer.public.hex()}.approval"
    replace_file(target, wire.encode(approval))
    for each in found.said.outputs:
        click.echo(wire.printable(f"{each.output} to {each.to}: {each.file}"))
    click.echo(f"verified against {found.manifest}")
    click.echo(f"{target}: approves export {export.hex()}")


@click.command()
@vouched_options
@click.option("--party", required=True, help="What the plan calls you.")
@click.option("--identity", type=existing, required=True, help="Your private key; `keygen`'s.")
@click.option(
    "--output",
    "wanted",
    type=click.Choice(["model", "metrics", "aggregates"]),
    required=True,
)
@click.option("-o", "--out", type=path_option, required=True, help="Where to write it, opened.")
def result(*, found: Vouched, party: str, identity: Path, wanted: str, out: Path) -> None:
    """Open what the job in DIRECTORY made for you, after its report was verified.

    The report's evidence says which sealed file the enclave made: another one is refused.
    """
    given = [each for each in found.said.outputs if (each.output, each.to) == (wanted, party)]
    if not given:
        raise ConfigError(f"the job gives no {wanted} to {party}")
    (entry,) = given
    sealed = found.job.out / entry.file
    if not sealed.is_file():
        raise ConfigError(f"{sealed}: not there yet; see `wardian job status`")
    open_file(
        sealed,
        out,
        identities=[HpkeIdentity(HpkePrivateKey.from_secret(read_secret(identity)))],
        pin=Pin.parse(entry.pin),
        media_type=entry.media_type,
        name=entry.name,
        version=1,
    )
    click.echo(str(out))
