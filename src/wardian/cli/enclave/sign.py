"""`wardian enclave sign`: a signature that the hardware accepts, verified before anyone gets it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from wardian._internal import wire
from wardian.errors import ConfigError
from wardian.tee.manifest.gramine_tools import NEW_KEY, SCHEMA_CHECK, SIGN, missing_tools
from wardian.tee.manifest.signing import (
    SignedEnclave,
    Signer,
    file_signer,
    make_key,
    plugin_signer,
    read_linted,
    sign_manifest,
)

ONE_SIGNER = "say who signs, by exactly one of --key, --new-key and --plugin"

file_option = click.Path(path_type=Path, dir_okay=False)


def _signer(
    key: Path | None, new_key: Path | None, plugin: str | None, arguments: tuple[str, ...]
) -> Callable[[], Signer]:
    """Return how to get the one signer that the options name; a new key is made by the call."""
    if sum(option is not None for option in (key, new_key, plugin)) > 1:
        raise ConfigError(ONE_SIGNER)
    if plugin is not None:
        return partial(plugin_signer, plugin, arguments)
    if arguments:
        raise ConfigError("what follows MANIFEST goes to a plug-in, and none is named")
    if key is not None:
        return partial(file_signer, key)
    if new_key is not None:
        return partial(make_key, new_key)
    raise ConfigError(ONE_SIGNER)


def _describe(signed: SignedEnclave) -> dict[str, object]:
    """Return what is shown of a signed enclave."""
    fields = signed.verified.sigstruct
    return {
        "role": signed.role,
        "manifest": str(signed.manifest),
        "signature": str(signed.signature),
        "mr_enclave": fields.mr_enclave.hex(),
        "mr_signer": fields.mr_signer.hex(),
        "product_id": fields.product_id,
        "svn": fields.svn,
        "debug": fields.debug,
        "date": fields.date,
    }


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("plugin_options", nargs=-1, type=click.UNPROCESSED)
@click.option("--key", type=file_option, help="The signer's key: RSA-3072, exponent 3, PEM.")
@click.option("--new-key", type=file_option, help="Make a key, write it here, sign with it.")
@click.option("--plugin", metavar="NAME", help="A signing plug-in of Gramine; no key file.")
@click.option(
    "-o",
    "--out",
    "output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Default: MANIFEST's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was signed as JSON.")
def sign(
    *,
    manifest: Path,
    plugin_options: tuple[str, ...],
    key: Path | None,
    new_key: Path | None,
    plugin: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Sign the enclave of MANIFEST with Gramine's tools; prints what the signature says.

    MANIFEST is the ROLE.manifest that `wardian enclave build` wrote. It is linted first, and what
    the tools wrote is verified before it is put into the output directory: ROLE.manifest.sgx and
    ROLE.sig, which hardware needs. A debug enclave is refused.

    The key stays in its file, or in the hardware module or key service of a plug-in, whose own
    options follow after `--`:

    \b
    wardian enclave sign enclave/worker.manifest --key signer.pem
    wardian enclave sign enclave/worker.manifest --plugin NAME -- --NAME-key 3
    """  # noqa: D301 - click reads the character \b, not a backslash
    signer = _signer(key, new_key, plugin, plugin_options)
    read_linted(manifest)
    missing = missing_tools((SCHEMA_CHECK, SIGN, *((NEW_KEY,) if new_key is not None else ())))
    if missing is not None:
        raise click.ClickException(missing)
    place = output or manifest.parent
    place.mkdir(parents=True, exist_ok=True)
    described = _describe(sign_manifest(manifest, signer(), output=place))
    if as_json:
        click.echo(wire.encode(described))
        return
    for name, value in described.items():
        click.echo(f"{name:<12} {'no' if value is False else value}")
