"""JPEG and PNG files to pixels, by Pillow, with every length looked at before it is believed.

An image of a few kilobytes can say that it is a hundred thousand pixels wide, and decode to
gigabytes. So the header is read first, for all images of a batch, and what is too large is refused
before a single pixel is decoded. Pillow's readers of other formats are never loaded.
"""

import io
from dataclasses import replace
from typing import Final

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

from wardian._internal.steps import ImageStep
from wardian.errors import ConfigError, JobFailed
from wardian.inference.dtypes import BYTES, numpy_dtype
from wardian.inference.spec import Array, Tensors, TensorSpec
from wardian.inference.steps.numbers import CHANNELS, channel_axis

MAX_OUTPUT_BYTES: Final = 2**28
"""Of the pixels that one inference takes: images of 70 bytes become 600 KB each."""
_IMAGES_OF_MOST_PIXELS: Final = 4
"""So many images of `max_pixels` may be decoded for one inference, or more of fewer pixels."""
_READERS: Final = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
)
_SAFE_MODES: Final = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"))
"""Those that have 8 bits a channel; 16 bits would be cut off, not scaled."""

Image.MAX_IMAGE_PIXELS = None  # it warns first and refuses at twice as many: ours refuses
ImageFile.LOAD_TRUNCATED_IMAGES = False


class DecodeImage:
    """Files to the pixels of one input: `[N]` of BYTES becomes `[N, C, H, W]` or `[N, H, W, C]`."""

    def __init__(self, spec: TensorSpec, ask: ImageStep) -> None:
        """Prepare for the input `spec`.

        Raises:
            ConfigError: it is no batch of grey or RGB images of one fixed size.
        """
        axis = channel_axis(spec)
        if axis is None or spec.dtype not in ("UINT8", "FP16", "FP32", "FP64"):
            raise ConfigError(
                f"`pre`: image needs floats or UINT8 of shape [N, C, H, W] or [N, H, W, C] with C "
                f"one of {CHANNELS}; {spec.name!r} is {spec.dtype} {list(spec.shape)}"
            )
        height, width = (spec.shape[2:] if axis == 1 else spec.shape[1:3])  # fmt: skip
        if height < 1 or width < 1:
            raise ConfigError(f"`pre`: image needs a fixed height and width in {spec.name!r}")
        self.name = spec.name
        self.outside = (replace(spec, dtype=BYTES, shape=(spec.shape[0],)),)
        self._dtype = numpy_dtype(spec.dtype)
        self._channels_first = axis == 1
        self._mode = "L" if spec.shape[axis] == 1 else "RGB"
        self._size = (width, height)
        self._ask = ask
        short = ask.short_side or max(self._size)
        if ask.fit == "crop" and short < max(self._size):
            raise ConfigError(f"`pre`: `short_side` {short} is below the height or width")
        self._short = short

    def apply(self, tensors: Tensors) -> Tensors:
        """Return `tensors` with the files of that input decoded.

        Raises:
            JobFailed: one is no JPEG or PNG, is broken, or is too large; or all together are.
        """
        files = tensors[self.name]
        width, height = self._size
        channels = len(self._mode)
        if len(files) * width * height * channels * self._dtype.itemsize > MAX_OUTPUT_BYTES:
            raise JobFailed("too many images for one inference")
        images = [self._open(file) for file in files]
        if sum(image.width * image.height for image in images) > (
            _IMAGES_OF_MOST_PIXELS * self._ask.max_pixels
        ):
            raise JobFailed("the images of one inference have too many pixels together")
        pixels = np.empty((len(files), height, width, channels), np.uint8)
        for at, image in enumerate(images):
            pixels[at] = self._decode(image).reshape(height, width, channels)
        if self._channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        tensors[self.name] = np.ascontiguousarray(pixels, self._dtype)
        return tensors

    def _open(self, file: object) -> ImageFile.ImageFile:
        """Return the image whose header `file` has, not decoded yet."""
        if not isinstance(file, bytes):
            raise JobFailed("an image is no bytes")
        reader = next((kind for magic, kind in _READERS if file.startswith(magic)), None)
        if reader is None:
            raise JobFailed("an image is neither JPEG nor PNG")
        try:
            image = reader(io.BytesIO(file))
        except Exception as err:  # Pillow documents no list
            raise JobFailed("an image's header cannot be read") from err
        if image.width * image.height > self._ask.max_pixels:
            raise JobFailed(f"an image has more than {self._ask.max_pixels} pixels")
        if image.mode not in _SAFE_MODES:
            raise JobFailed("an image has more than 8 bits a channel")
        return image

    def _decode(self, image: ImageFile.ImageFile) -> Array:
        """Return its pixels at the model's size, 8 bits a channel."""
        width, height = self._size
        try:
            with image:
                plain = image.convert(self._mode)
            if self._ask.fit == "stretch":
                return np.asarray(plain.resize(self._size, Image.Resampling.BILINEAR))
            grown = _scaled(plain.width, plain.height, self._short)
            left, top = round((grown[0] - width) / 2), round((grown[1] - height) / 2)
            # What is cut off is not resized: a strip of 1 by 16 million would grow to terabytes.
            box = [edge * plain.width / grown[0] for edge in (left, left + width)]
            rows = [edge * plain.height / grown[1] for edge in (top, top + height)]
            middle = plain.resize(
                self._size, Image.Resampling.BILINEAR, box=(box[0], rows[0], box[1], rows[1])
            )
            return np.asarray(middle)
        except Exception as err:
            raise JobFailed("an image is broken") from err


def _scaled(width: int, height: int, short: int) -> tuple[int, int]:
    """Return the size at which the short side is `short`, proportions kept."""
    if width <= height:
        return short, max(short, int(short * height / width))
    return max(short, int(short * width / height)), short
