"""How Analytics Zoo encrypted a model, as options say it; and what each way does not protect."""

from typing import Final

from wardian.crypto.zoo_keys import ZooForm
from wardian.errors import ConfigError

_GUESSED: Final = (
    "Its secret is guessed as fast as 65,536 rounds of PBKDF2 go, by whoever has the old file, and "
    "lay in the clear in Redis: take what both protect for known, and remove the old file."
)
_WARNINGS: Final = {
    "gcm": "The old form did not say which model it is: one file could stand in for another.",
    "cbc": (
        "The old form does not notice changes: whoever could write to the file may have changed "
        "the model. Compare the SHA-256 of the file with one noted when it was made."
    ),
    "v09": (
        "The old form does not notice changes, so whoever could write to the file may have changed "
        "the model; and it shows which files begin alike. Compare the SHA-256 of the file with one "
        "noted when it was made."
    ),
}
FORMS: Final = tuple(_WARNINGS)


def form_of(form: str, bits: str | None) -> ZooForm:
    """Return the form that is named.

    Args:
        form: one of `FORMS`.
        bits: "128", "256", or None: not said.

    Raises:
        ConfigError: it is not named wholly.
    """
    if form == "v09":
        if bits == "128":
            raise ConfigError("--bits: the form of 0.9 has keys of 256 bits alone")
        bits = "256"
    if bits is None:
        raise ConfigError(
            "--bits: say 128 or 256; Analytics Zoo took 128 unless told otherwise, BigDL 2.x 256"
        )
    return ZooForm(f"{form}-{bits}")


def warning_of(form: ZooForm) -> str:
    """Return what is to be known of a file that was encrypted so."""
    return f"{_WARNINGS[form.value.partition('-')[0]]} {_GUESSED}"
