"""What can be said of a plan before anything is attested: it costs no quote and asks no policy."""

from dataclasses import dataclass

from wardian.broker.authority import Authority
from wardian.broker.jobs.plan import JobPlan, canonical_digest, parse_plan
from wardian.broker.jobs.rules import Rule
from wardian.broker.mesh.manifest import MeshManifest
from wardian.errors import PolicyDenied

ROLE = "job"
"""What the manifest calls code that may have tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPlan:
    """A plan as it was asked for, and the digest that evidence has to bind."""

    plan: JobPlan
    digest: bytes

    @property
    def digest_hex(self) -> str:
        """The digest, for audit lines."""
        return self.digest.hex()


def read_asked(raw: bytes, authority: Authority) -> AskedPlan:
    """Return the plan in `raw`, about tables that the mesh could have.

    Raises:
        FormatError: no plan, or not in its one canonical form.
        PolicyDenied: the rule `role-known`: no code is a job in the manifest in force; the rule
            `policy-mesh`: the plan is for another mesh; the rule `table-owner`: one of its tables
            is of no owner of the mesh.
        TransportError: no manifest is in force.
    """
    plan = parse_plan(raw)
    refuse_roleless(authority.manifest.manifest)
    if plan.mesh != authority.mesh:
        raise PolicyDenied("the plan is for another mesh", rule=Rule.POLICY_MESH)
    for each in plan.inputs:
        if plan.parties[each.owner].key not in authority.owners:
            raise PolicyDenied(
                f"{each.owner}, whose table {each.table} is in the plan, is no owner of this mesh",
                rule=Rule.OWNER,
            )
    return AskedPlan(plan=plan, digest=canonical_digest(raw))


def refuse_roleless(manifest: MeshManifest) -> None:
    """Return if `manifest` lists code that may be a job; PolicyDenied, rule `role-known`."""
    if ROLE not in manifest.roles:
        raise PolicyDenied(
            "the mesh manifest has no role job that may be given tables", rule="role-known"
        )


def refuse_unlisted(manifest: MeshManifest, measurement: str) -> None:
    """Return if `measurement`, in hex, is one that `manifest` lists for a job.

    This stands beside the appraisal, as in a release: who appraised with another policy by mistake
    still releases nothing.

    Raises:
        PolicyDenied: the rule `role-known` or `role-measurement`.
    """
    refuse_roleless(manifest)
    if measurement not in manifest.roles[ROLE].measurements:
        raise PolicyDenied(
            f"measurement {measurement} is not one that the manifest lists for a job",
            rule="role-measurement",
        )
