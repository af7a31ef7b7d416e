"""What the enclave of a job vouches for, verified by what the user named."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import click
import msgspec

from wardian._internal import wire
from wardian._internal.clock import unix_time
from wardian._internal.settings import read
from wardian.attestation.evidence import Evidence
from wardian.attestation.results.result import AttestationResult
from wardian.attestation.verifier import verify_evidence
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.broker.jobs.rules import Rule
from wardian.broker.mesh.appraisal import appraisal_policy
from wardian.broker.mesh.fields import Hex32
from wardian.broker.mesh.verify import VerifiedManifest, verify_manifest_for
from wardian.cli.job.directory import JobDir
from wardian.cli.job.run import ROLE, directory_argument
from wardian.cli.mesh.files import existing, read_agreed, read_manifest
from wardian.cli.policy.files import read_policy
from wardian.errors import (
    AttestationError,
    ConfigError,
    EvidenceInvalid,
    FormatError,
    PolicyDenied,
)
from wardian.learning.shared.outbox import EVIDENCE, REPORT, report_evidence_data
from wardian.learning.shared.outputs import export_digest
from wardian.learning.shared.report import FORMAT, planned

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
    measurement: str
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
        manifest: the file by which that was appraised.
        verified: what is in it.
        accepted: owners whose policies, which the user named, accept the code as well.
    """

    job: JobDir
    plan: JobPlan
    report: Mapping[str, Any]
    said: _Said
    result: AttestationResult
    manifest: Path
    verified: VerifiedManifest
    accepted: tuple[str, ...]

    @property
    def platform(self) -> str:
        """SIMULATED, or the kind of TEE."""
        claims = self.result.claims
        return "SIMULATED" if claims.simulated else claims.kind.value

    @property
    def told(self) -> dict[str, str]:
        """What was verified, by name, for a page or a program."""
        return {
            "platform": self.platform,
            "measurement": self.result.claims.measurement.hex(),
            "manifest_version": str(self.verified.manifest.version),
            "manifest_digest": self.verified.digest.hex(),
            "policies": ", ".join(self.accepted) or "none was named",
        }

    @property
    def made_by(self) -> str:
        """One line about the code that vouches, and on what platform."""
        policies = "".join(f" and {owner}'s policy accepts" for owner in self.accepted)
        why = f"{self.platform}, as the owners' manifest lists{policies}"
        return f"made by {self.result.claims.measurement.hex()} ({why})"


def vouched(job: JobDir, *, agreed: Path, manifest: Path, policies: Iterable[Path] = ()) -> Vouched:
    """Return the report of `job`, whose evidence is of code that the manifest lists for a job.

    Args:
        job: its directory, or a copy of it: the host's word, as far as nothing here proves it.
        agreed: the mesh's wardian.toml.
        manifest: that the owners signed.
        policies: signed ones of owners of its tables, whose `[code]` has to accept the code too:
            a quorum may list more code in the manifest than one owner gives its table to.

    Raises:
        ConfigError: there is no report yet, or a policy is not signed or of no table of the plan.
        AttestationError, PolicyDenied: the report is not of code that is accepted as a job.
        FormatError: it is none.
        EvidenceInvalid: it is of another plan than the one in the directory, or says other things
            of it; of other outputs than those of its export; or names other code than the one that
            vouches for it.
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
    whole = wire.decode(raw, dict[str, Any], what="report of a job")
    plan = job.plan
    if said.format != FORMAT or said.mesh != settings.mesh.name:
        raise FormatError("the report is of another format, or of another mesh")
    if said.plan_digest != plan_digest(plan).hex():
        raise EvidenceInvalid(f"the report is of another plan than {job.root / 'job.toml'}")
    if not _says(whole, planned(plan)):
        raise EvidenceInvalid("the report says other things of its plan than stand there")
    if said.measurement != result.claims.measurement.hex():
        raise EvidenceInvalid("the report names other code than the one that vouches for it")
    outputs = ((each.output, each.to, each.pin) for each in said.outputs)
    if said.export_digest != export_digest(plan, outputs).hex():
        raise EvidenceInvalid("the report is of other outputs than those of its export")
    owners = [_refuse_other_code(path, plan, result) for path in policies]
    return Vouched(
        job=job,
        plan=plan,
        report=whole,
        said=said,
        result=result,
        manifest=manifest,
        verified=verified,
        accepted=tuple(owners),
    )


def _says(told: Any, wanted: Any) -> bool:
    """Return whether `told` says all that `wanted` does, whatever else it says."""
    if isinstance(wanted, Mapping):
        return isinstance(told, Mapping) and all(
            key in told and _says(told[key], each) for key, each in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(told, list) and len(told) == len(wanted) and all(map(_says, told, wanted))
    return bool(told == wanted)


def _refuse_other_code(path: Path, plan: JobPlan, result: AttestationResult) -> str:
    """Return the owner whose signed policy is in the file `path`, if it gives to such code."""
    held = read_policy(path)
    policy = held.policy
    if held.signed is None:
        raise ConfigError(f"{path}: nobody signed this policy")
    if policy.mesh != plan.mesh or policy.place not in plan.places:
        raise ConfigError(f"{path}: is the policy of no table that the job used")
    if policy.revoked:
        raise PolicyDenied(f"{path}: withdraws {policy.table}", rule=Rule.POLICY_REVOKED)
    try:
        policy.appraisal.demand(result.claims)
    except PolicyDenied as err:
        raise PolicyDenied(
            f"{path}: {policy.owner} does not give {policy.table} to the code that vouches for "
            f"the report: {err.rule}: {err}",
            rule=Rule.CODE,
        ) from err
    return policy.owner


def vouched_options(command: F) -> F:
    """Give `command` a job's report, once it is verified, as `found`."""

    @click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Your state directory of the mesh: by its word the report is verified.",
    )
    @click.option("--agreed", type=existing, help="The mesh's wardian.toml; default: --state's.")
    @click.option("--manifest", type=existing, help="That is in force; default: --state's.")
    @click.option(
        "--policy",
        "policies",
        type=existing,
        multiple=True,
        help="Your signed policy: code that its [code] does not accept is refused.",
    )
    @directory_argument
    @wraps(command)
    def with_report(
        *,
        directory: Path,
        state: Path | None,
        agreed: Path | None,
        manifest: Path | None,
        policies: tuple[Path, ...],
        **options: object,
    ) -> None:
        job = JobDir.open(directory)
        agreed, manifest = job.trusted(state, agreed, manifest)
        found = vouched(job, agreed=agreed, manifest=manifest, policies=policies)
        command(found=found, **options)

    return with_report  # type: ignore[return-value]
