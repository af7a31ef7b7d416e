"""A text to what it stands for by the rule of Cluster Serving: strings, or an image in base64."""

from binascii import Error as Base64Error
from binascii import a2b_base64

from wardian.errors import FormatError
from wardian.serving.zoo.columns import MAX_STRINGS, Image, Strings


def parse_text(text: str) -> Strings | Image:
    """Return the strings between the "|" of `text`, or the image that it is if it has none.

    A list of a single string comes as no more than that string, so that their client has no way to
    send one: it is taken for an image.

    Raises:
        FormatError: too many strings; no "|" and not base64.
    """
    if "|" not in text:
        return Image(decode_base64(text, what="an image"))
    bound_strings(text.count("|") + 1)  # before they are objects
    return Strings(tuple(text.split("|")))


def bound_strings(count: int) -> None:
    """Return if a column may have `count` strings.

    Raises:
        FormatError: too many.
    """
    if count > MAX_STRINGS:
        raise FormatError(f"{count} strings, at most {MAX_STRINGS} are accepted")


def decode_base64(text: str | bytes, *, what: str) -> bytes:
    """Return what `text` says in standard base64: no more than three bytes for four characters.

    Padding may be missing, as it might for their server; there is nothing else around the text.

    Raises:
        FormatError: not base64.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        padded = raw + b"=" * (-len(raw) % 4)
        if padded.endswith(b"==="):  # Python before 3.13 takes "AAAA===="
            raise FormatError(f"{what}: not base64")
        return a2b_base64(padded, strict_mode=True)
    except (Base64Error, UnicodeEncodeError) as err:
        raise FormatError(f"{what}: not base64") from err
