"""An owner's key that another program holds: a hardware module, an agent, a key service."""

import shlex
import subprocess
from typing import Final

from wardian.crypto.signing import normalize_signature, verify_signature
from wardian.errors import AuthenticationFailed, ConfigError, FormatError

SIGN_TIMEOUT_S: Final = 25.0
"""The broker waits for 30 s."""


class CommandSigner:
    """Signs by running a program: it reads the message and writes the signature."""

    __slots__ = ("_argv", "public")

    public: bytes
    """The owner's public key, 32 or 33 bytes."""

    def __init__(self, command: str, *, public: str) -> None:
        """Run `command`, split into words as a shell does, without a shell; `public` is hex.

        Raises:
            ConfigError: no words, or no owner's public key.
        """
        try:
            self._argv, self.public = tuple(shlex.split(command)), bytes.fromhex(public)
        except ValueError as err:
            raise ConfigError(f"--sign-with or --owner: {err}") from err
        if not self._argv:
            raise ConfigError("--sign-with: name a program")

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes in their one form, verified.

        Raises:
            ConfigError: the program cannot be run, fails, is too slow, or gives something else
                than this owner's signature. What it prints on its standard error is not taken.
        """
        what = self._argv[0]
        try:
            done = subprocess.run(
                self._argv,
                input=message,
                stdout=subprocess.PIPE,
                timeout=SIGN_TIMEOUT_S,
                check=True,
            )
            signature = normalize_signature(self.public, done.stdout)
            verify_signature(self.public, signature, message)
        except OSError as err:
            raise ConfigError(f"--sign-with {what}: {err.strerror}") from err
        except subprocess.SubprocessError as err:
            raise ConfigError(f"--sign-with {what}: it failed, or was too slow") from err
        except (FormatError, AuthenticationFailed) as err:
            raise ConfigError(f"--sign-with {what}: gave no signature of this owner") from err
        return signature
