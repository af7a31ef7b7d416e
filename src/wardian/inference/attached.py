"""A vocabulary inside of the file of a model, so that one pin names both.

ONNX keeps it in its metadata, under `wardian.vocabulary`; IR in a part of its own (`ir_file`). The
engines do not look at it.
"""

from typing import Final

from wardian.errors import ConfigError
from wardian.inference import ir_file
from wardian.inference.onnx_file import metadata, with_metadata
from wardian.inference.text.vocabulary import Vocabulary, parse_vocabulary

KEY: Final = "wardian.vocabulary"


def with_vocabulary(data: bytes, *, media_type: str, vocabulary: bytes) -> bytes:
    """Return the model in `data` with `vocabulary` in it, as `parse_vocabulary` takes it.

    Raises:
        ConfigError: it has one already.
        FormatError: `data` is no such model, or `vocabulary` is none.
    """
    parse_vocabulary(vocabulary)
    if _raw(data, media_type) is not None:
        raise ConfigError("the model carries a vocabulary already")
    if media_type == ir_file.MEDIA_TYPE:
        xml, weights = ir_file.parse_ir(data)
        return ir_file.build_ir(xml, weights, vocabulary)
    return with_metadata(data, KEY, vocabulary)


def vocabulary_of(
    data: bytes | bytearray, *, media_type: str, what: str = "`pre`: tokens"
) -> Vocabulary:
    """Return the vocabulary in the model `data`.

    Raises:
        ConfigError: it carries none.
        FormatError: what it carries is none; or `data` is no model.
    """
    raw = _raw(data, media_type)
    if raw is None:
        raise ConfigError(
            f"{what} needs the model's vocabulary: seal the model with `wardian seal --vocab`"
        )
    return parse_vocabulary(raw)


def _raw(data: bytes | bytearray, media_type: str) -> bytes | None:
    if media_type == ir_file.MEDIA_TYPE:
        return ir_file.vocabulary_in(data)
    return metadata(data, KEY)
