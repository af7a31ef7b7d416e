"""The group of `wardian job`."""

import click

from wardian.cli.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    commands_by_name={
        "plan": ("wardian.cli.job.plan", "plan"),
        "submit": ("wardian.cli.job.run", "submit"),
        "run": ("wardian.cli.job.run", "run"),
        "status": ("wardian.cli.job.status", "status"),
        "report": ("wardian.cli.job.report", "report"),
        "approve": ("wardian.cli.job.report", "approve"),
        "result": ("wardian.cli.job.report", "result"),
    },
)
def job() -> None:
    """Learn from sealed tables of several owners, in one enclave, as far as all of them allow.

    A plan names tables, columns, an algorithm of a closed list and who is given what; it never
    brings code. The broker gives the tables' keys to an attested job whose plan every owner's
    policy allows, and what comes out is sealed to its recipients.

    \b
    wardian job plan job.toml --policy records.policy --policy claims.policy
    wardian job submit job.toml --table hospital-a/records=records.sealed \\
        --table hospital-b/claims=claims.sealed
    wardian job status .wardian/jobs/study
    wardian job approve .wardian/jobs/study --state .wardian --key owner.key
    wardian job result .wardian/jobs/study --state .wardian --party hospital-a \\
        --identity a.key --output model -o model.onnx
    """  # noqa: D301 (click reads the character \b, not a backslash)
