"""The options of whoever takes Cluster Serving's files: one set, and one object of them."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from wardian.cli.conversion import parse_shape
from wardian.cli.reseal.forms import FORMS, form_of
from wardian.compat.zoo.flags import refuse_passwords
from wardian.compat.zoo.migration.wanted import Wanted
from wardian.errors import ConfigError

Command = Callable[..., None]
file_option: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_OWN_FILE: Final = "A file of yours alone; its first line is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a command was told.

    Attributes:
        wanted: of the files.
        secret_file: its first line is the secret of encrypted models; None: it is asked for.
        salt_file: likewise the salt.
        model_secured: whether both lie in the Redis of the job, in the hash `model_secured`.
    """

    wanted: Wanted
    secret_file: Path | None
    salt_file: Path | None
    model_secured: bool


def moving_options(*, dialects: bool) -> Callable[[Command], Command]:
    """Return what gives a command these options, and to it their `Asked` as `asked`.

    The command has an argument or an option `config` of its own.

    Args:
        dialects: whether stream and HTTP paths are served unless told otherwise.
    """

    def give(command: Command) -> Command:
        @functools.wraps(command)
        def told(*, config: Path, **given: Any) -> None:
            refuse_passwords(given["flags"])
            asked = _asked(config, {name: given.pop(name) for name in _NAMES})
            command(asked=asked, **given)

        made: Command = told
        for option in reversed(_options(dialects=dialects)):
            made = option(made)
        return made

    return give


def _asked(config: Path, given: dict[str, Any]) -> Asked:
    if given["model_secured"] and (given["secret_file"] or given["salt_file"]):
        raise ConfigError("--model-secured takes the place of --secret-file and --salt-file")
    form, bits = given["form"], given["bits"]
    if form is None and (bits or given["clear"]):
        raise ConfigError("--bits and --clear go with --form")
    same = ("servables", "out", "stream", "http", "redis_ca", "redis_user", "redis_password",
            "keystore_password", "flags", "clear", "force")  # fmt: skip
    wanted = Wanted(
        config=config,
        shapes=[parse_shape(text) for text in given["shapes"]],
        form=None if form is None else form_of(form, bits),
        **{name: given[name] for name in same},
    )
    return Asked(
        wanted=wanted,
        secret_file=given["secret_file"],
        salt_file=given["salt_file"],
        model_secured=given["model_secured"],
    )


_NAMES: Final = (
    "servables", "out", "shapes", "stream", "http", "redis_ca", "redis_user", "redis_password",
    "keystore_password", "form", "bits", "clear", "secret_file", "salt_file", "model_secured",
    "force", "flags",
)  # fmt: skip


def _options(*, dialects: bool) -> list[Callable[[Command], Command]]:
    option = functools.partial(click.option, show_default=True)
    return [
        option("--servables", type=file_option, help="The HTTP front end's servables.yaml."),
        option(
            "--out",
            type=click.Path(path_type=Path),
            default=Path("migrated"),
            help="The directory to write, for `wardian up`.",
        ),
        option(
            "--stream/--no-stream",
            default=dialects,
            help="Read the job's Redis stream, whose records lie in the clear: UNPROTECTED.",
        ),
        option("--http/--no-http", default=dialects, help="Have the paths of its HTTP front ends."),
        option("--redis-ca-file", "redis_ca", type=file_option, help="The CA of its Redis, PEM."),
        option("--redis-user", default="", help="ACL user of its Redis.", show_default=False),
        option(
            "--redis-password-file",
            "redis_password",
            type=file_option,
            help=f"{_OWN_FILE} the password of its Redis. It lies in a directory of its own.",
        ),
        option(
            "--keystore-password-file",
            "keystore_password",
            type=file_option,
            help=f"{_OWN_FILE} that of httpsKeyStorePath. It lies in a directory of its own.",
        ),
        option("--shape", "shapes", multiple=True, help="Of a TorchScript input: -1,3,224,224."),
        option("--form", type=click.Choice(FORMS), help="How a model is encrypted."),
        option("--bits", type=click.Choice(("128", "256")), help="Of its key; v09: always 256."),
        option(
            "--clear", type=click.Choice(("xml", "bin")), multiple=True, help="Not encrypted of it."
        ),
        option(
            "--secret-file", type=file_option, help=f"{_OWN_FILE} the model's secret; else asked."
        ),
        option("--salt-file", type=file_option, help=f"{_OWN_FILE} its salt; else asked."),
        option("--model-secured", is_flag=True, help="Both lie in its Redis, in `model_secured`."),
        option("--force", is_flag=True, help="Overwrite files in the directory."),
        click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAGS...]"),
    ]
