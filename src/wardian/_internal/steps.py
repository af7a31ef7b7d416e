"""`pre` and `post` of `[models.NAME]`: what a worker does before and after the model itself.

They are part of `wardian.toml`, so they are measured with it. `wardian.inference.steps` carries
them out.
"""

from typing import Annotated, Literal

import msgspec

from wardian._internal.settings import Settings

TensorName = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Scale = Annotated[float, msgspec.Meta(gt=0, le=1e30)]
Length = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Values = Annotated[tuple[Finite, ...], msgspec.Meta(min_length=1, max_length=4)]
Divisors = Annotated[tuple[Scale, ...], msgspec.Meta(min_length=1, max_length=4)]
Label = Annotated[str, msgspec.Meta(max_length=256)]


class ImageStep(Settings, frozen=True, kw_only=True, tag_field="step", tag="image"):
    """A JPEG or PNG file, one a row, becomes the pixels that the model's `input` takes.

    The input's own shape says how many, and whether grey or RGB: `[N, C, H, W]` or `[N, H, W, C]`
    with H and W fixed and C 1 or 3. Pixels are 0 to 255.
    """

    input: TensorName
    fit: Literal["stretch", "crop"] = "stretch"
    """stretch: to H and W, whatever the proportions. crop: shrunk or grown until its short side is
    `short_side`, then the middle of H and W."""
    short_side: Length | None = None
    """For `crop`; by default the longer of H and W."""
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=100_000_000)] = 16_777_216
    """Larger images are refused before they are decoded."""

    def __post_init__(self) -> None:
        """Refuse what would be without effect."""
        if self.short_side is not None and self.fit != "crop":
            raise ValueError('`short_side` is for `fit = "crop"` alone')


class NormaliseStep(Settings, frozen=True, kw_only=True, tag_field="step", tag="normalise"):
    """`(x * scale - mean) / std`, by channel where `mean` and `std` have one value each for it."""

    input: TensorName
    scale: Scale = 1.0
    mean: Values = (0.0,)
    std: Divisors = (1.0,)

    def __post_init__(self) -> None:
        """Refuse values for different numbers of channels."""
        if len({len(self.mean), len(self.std)} - {1}) > 1:
            raise ValueError("`mean` and `std` have values for different numbers of channels")


class TokensStep(Settings, frozen=True, kw_only=True, tag_field="step", tag="tokens"):
    """A text in UTF-8, one a row, becomes the numbers of its tokens, as the model takes them.

    How texts are split, and into which tokens, the vocabulary says that is sealed in the model. All
    rows of an inference are padded to the longest of them, or to the length that the model's inputs
    fix; what does not fit into `max_length` is cut off at the end.
    """

    input: TensorName = "text"
    """What the client sends in place of the model's inputs below."""
    ids: TensorName = "input_ids"
    mask: TensorName | None = None
    """1 for a token and 0 for padding; None: `attention_mask`, if the model has it."""
    types: TensorName | None = None
    """All 0: there is one text a row. None: `token_type_ids`, if the model has it."""
    max_length: Annotated[int, msgspec.Meta(ge=2, le=32_768)] = 512
    """Most tokens of a row, `first` and `last` among them."""
    max_text_bytes: Annotated[int, msgspec.Meta(ge=1, le=1024**2)] = 16_384
    """A longer text is refused."""
    lowercase: bool = False
    """For wordpiece: texts lose their case and their accents, as "uncased" models need it."""
    first: Label | None = None
    """The token before each text; "": none. None: `[CLS]` for wordpiece, none for byte-bpe."""
    last: Label | None = None
    """The token after it; None: `[SEP]`, or none."""
    pad: Label | None = None
    """The token that fills rows up; None: `[PAD]`, or `<|endoftext|>`."""
    unknown: Label | None = None
    """For wordpiece, that of an unknown word; None: `[UNK]`."""


class SoftmaxStep(Settings, frozen=True, kw_only=True, tag_field="step", tag="softmax"):
    """`output` becomes probabilities along its last axis."""

    output: TensorName


class TopStep(Settings, frozen=True, kw_only=True, tag_field="step", tag="top"):
    """`output` gives way to `<output>_index` and `<output>_value`: its n largest, largest first."""

    output: TensorName
    n: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    labels: Annotated[tuple[Label, ...], msgspec.Meta(max_length=10_000)] = ()
    """By index; with them there is `<output>_label`, too."""


class GenerateTerms(Settings, frozen=True, kw_only=True):
    """`[models.NAME.generate]`: the model answers a text with its continuation, token by token.

    The vocabulary is sealed in the model, as for tokens steps. What the model takes and gives
    itself is found by the names below; keys and values of what was run before, if it has them, by
    those of Hugging Face's export: `past_key_values.0.key` and `present.0.key`.
    """

    most_tokens: Annotated[int, msgspec.Meta(ge=1, le=32_768)] = 256
    """Of one answer, whatever a client asks for. With the prompt's, no more than the model has
    positions for."""
    most_prompt_tokens: Annotated[int, msgspec.Meta(ge=1, le=32_768)] = 768
    """Of one prompt; a longer one is refused."""
    max_text_bytes: Annotated[int, msgspec.Meta(ge=1, le=1024**2)] = 65_536
    """Of a prompt that is a text."""
    end: Annotated[tuple[Label, ...], msgspec.Meta(max_length=16)] | None = None
    """Tokens that end an answer; None: `<|endoftext|>`, or `[SEP]` for wordpiece."""
    first: Label = ""
    """The token before each text; "": none."""
    unknown: Label | None = None
    """For wordpiece, that of an unknown word; None: `[UNK]`."""
    lowercase: bool = False
    """For wordpiece: see the tokens step."""
    ids: TensorName = "input_ids"
    mask: TensorName | None = None
    """1 for each token; None: `attention_mask`, if the model has it."""
    positions: TensorName | None = None
    """0, 1, 2, ...; None: `position_ids`, if the model has it."""
    logits: TensorName = "logits"
    past: TensorName = "past_key_values"
    """What the names of inputs for keys and values begin with, before a dot."""
    present: TensorName = "present"
    """And those of the outputs that they come from."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 256 * 1024**2
    """Most memory of one worker for keys and values of answers under way; 0 keeps none."""


PreStep = ImageStep | NormaliseStep | TokensStep
PostStep = SoftmaxStep | TopStep
