"""An encrypted model of a job, sealed for `wardian up`: what is decrypted is in memory alone."""

from collections.abc import Callable
from pathlib import Path

import click

from wardian._internal.files import replace_file
from wardian.cli.moving.options import Asked
from wardian.cli.reseal.asking import ask_keys
from wardian.cli.reseal.contents import Contents, Opening, find_parts
from wardian.cli.reseal.forms import warning_of
from wardian.cli.reseal.sealing import seal_contents
from wardian.cli.their_redis import secured_keys, way_to
from wardian.compat.zoo.migration.directory import KEY_SUFFIX, SEALED_SUFFIX
from wardian.compat.zoo.migration.planned import PlannedModel
from wardian.compat.zoo.their_place import TheirPlace
from wardian.crypto.recipients import BrokerKey
from wardian.crypto.secret import Secret
from wardian.crypto.zoo_keys import ZooKeys
from wardian.errors import ConfigError
from wardian.inference.ir_file import MEDIA_TYPE as IR


class Resealing:
    """Seals the encrypted models of one run. Secret and salt are asked for once, when needed."""

    def __init__(self, asked: Asked) -> None:
        """Read nothing yet."""
        self._asked = asked
        self._keys: ZooKeys | None = None

    def seal(self, model: PlannedModel, out: Path, redis: Callable[[], TheirPlace]) -> None:
        """Leave `NAME.sealed`, its pin and its fresh key `NAME.key` in the directory `out`.

        The key is written last: without it there is no model to be taken for whole.

        Raises:
            ConfigError: the files, the secret or the salt cannot be had.
            FormatError, AuthenticationFailed: they do not open in this form, by this secret.
        """
        form, source = self._asked.wanted.form, model.encrypted
        if form is None or source is None or not source.is_dir():
            raise ConfigError(f"{model.place}: modelPath: no such directory here")
        parts = find_parts(source, self._asked.wanted.clear)
        contents = Contents(parts, Opening(keys=self._opened(redis), form=form, latin1=True))
        key, target = Secret.random(), out / f"{model.name}{SEALED_SUFFIX}"
        sealed = seal_contents(
            contents,
            target,
            media_type=IR,
            load=True,
            recipients=lambda: [BrokerKey(key)],
            name=model.name,
            version=model.version,
            told=model.name,
        )
        replace_file(target.with_name(target.name + ".pin"), f"{sealed.pin}\n".encode())
        replace_file(out / f"{model.name}{KEY_SUFFIX}", f"{key.reveal().hex()}\n".encode())
        key.wipe()
        for name, digest in contents.sha256_hex.items():
            click.echo(f"read {name}, SHA-256 {digest}")
        click.echo(f"warning: {warning_of(form)}", err=True)

    def _opened(self, redis: Callable[[], TheirPlace]) -> ZooKeys:
        if self._keys is None:
            asked = self._asked
            if asked.model_secured:
                self._keys = secured_keys(way_to(redis()))
            else:
                self._keys = ask_keys(asked.secret_file, asked.salt_file)
        return self._keys

    def wipe(self) -> None:
        """Forget the keys."""
        if self._keys is not None:
            self._keys.wipe()
            self._keys = None
