"""The smallest PNG and JPEG files that there are, to see at start that both can be decoded."""

import base64

from wardian._internal.steps import ImageStep
from wardian.errors import JobFailed
from wardian.inference.dtypes import bytes_array
from wardian.inference.spec import TensorSpec

_GREY = 128
_PNG = base64.b64decode(  # one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_JPEG = base64.b64decode(  # the same
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIsIxwc"
    "KDcpLDAxNDQ0Hyc5PTgyPC4zNDL/wAALCAABAAEBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QA"
    "tRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0"
    "NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2"
    "t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/ACv/2Q=="
)


def decode_trials() -> str:
    """Return the decoder's name and version, after both files decoded to what they show.

    Raises:
        JobFailed: one does not.
    """
    from PIL import __version__  # noqa: PLC0415  loaded where images are served, and nowhere else

    from wardian.inference.steps.image import DecodeImage  # noqa: PLC0415

    step = DecodeImage(
        TensorSpec(name="x", dtype="UINT8", shape=(-1, 1, 2, 2)), ImageStep(input="x")
    )
    pixels = step.apply({"x": bytes_array((_PNG, _JPEG), (2,))})["x"]
    if pixels.shape != (2, 1, 2, 2) or not (pixels == _GREY).all():
        raise JobFailed("self-test: a grey image does not decode to grey")
    return f"pillow {__version__}"
