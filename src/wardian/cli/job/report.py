"""`wardian job report`, `approve`, `result`: what a job vouches for, and who uses it."""

from pathlib import Path

import click

from wardian._internal import wire
from wardian._internal.files import replace_file
from wardian.cli.files import path_option, read_secret
from wardian.cli.job.vouched import Vouched, vouched_options
from wardian.cli.mesh.files import existing
from wardian.cli.owner.keys import read_owner_key
from wardian.crypto.hpke import HpkePrivateKey
from wardian.crypto.recipients import HpkeIdentity
from wardian.crypto.sealed_file import Pin, open_file
from wardian.errors import ConfigError
from wardian.learning.shared.approvals import sign_approval
from wardian.learning.shared.report import as_html, rows_told


@click.command()
@vouched_options
@click.option("--json", "as_json", is_flag=True)
@click.option("--html", type=path_option, help="Write a page to read here.")
def report(*, found: Vouched, as_json: bool, html: Path | None) -> None:
    """Verify what the job in DIRECTORY reports, and show it.

    The report says what was used, by which measured code, under whose rule, and what came out. It
    comes with evidence of the enclave that made it, which is verified against the owners' manifest.
    """
    if html is not None:
        replace_file(html, as_html(found.report, verified=found.told))
    if as_json:
        click.echo(wire.encode({**found.report, "verified": found.told}))
        return
    lines = [
        f"{found.plan.name}: {found.plan.train.algorithm}, purpose {found.plan.purpose}",
        found.made_by,
        *(
            f"used  {each['owner']}'s {each['table']}: {', '.join(each['columns'])}; "
            f"rule {each['rule']} of policy {each['policy_serial']}"
            for each in found.report["tables"]
        ),
        *(f"out   {each.output} to {each.to}, {each.file}" for each in found.said.outputs),
        f"rows  {rows_told(found.report)}",
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
    click.echo(wire.printable(found.made_by))
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
    click.echo(wire.printable(found.made_by))
