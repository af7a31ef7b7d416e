"""Images become pixels; files made to harm are refused before they are decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from simulators.data_plane import onnx_model

from wardian._internal.steps import ImageStep, NormaliseStep
from wardian.errors import ConfigError, JobFailed
from wardian.inference import TensorSpec, load_model
from wardian.inference.steps.image import DecodeImage
from wardian.inference.steps.image_trial import decode_trials
from wardian.inference.steps.pipeline import with_steps

RGB = TensorSpec(name="x", dtype="UINT8", shape=(-1, 8, 6, 3))


def files(*contents: bytes) -> dict[str, np.ndarray]:
    return {"x": np.array(contents, object)}


def step(spec: TensorSpec = RGB, **ask) -> DecodeImage:
    return DecodeImage(spec, ImageStep(input="x", **ask))


def photo(width: int = 60, height: int = 40) -> Image.Image:
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height))


def encoded(image: Image.Image, kind: str = "PNG", **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes = b"", *, more: bytes = b"", depth: int = 8) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more
        + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_a_png_of_the_right_size_comes_out_pixel_by_pixel():
    pixels = np.random.default_rng(1).integers(0, 255, (8, 6, 3), np.uint8)
    got = step().apply(files(encoded(Image.fromarray(pixels))))["x"]
    assert got.dtype == np.uint8
    assert np.array_equal(got, pixels[None])


@pytest.mark.parametrize("shape", [(-1, 3, 8, 6), (-1, 8, 6, 3)])
@pytest.mark.parametrize("dtype", ["UINT8", "FP16", "FP32", "FP64"])
def test_both_layouts_and_every_type_hold_the_same_pixels(shape, dtype):
    got = step(TensorSpec(name="x", dtype=dtype, shape=shape)).apply(files(encoded(photo())))["x"]
    expected = np.asarray(photo().resize((6, 8), Image.Resampling.BILINEAR))
    if shape[1] == 3:
        got = got.transpose(0, 2, 3, 1)
    assert np.array_equal(got[0], expected)


def test_crop_is_the_middle_of_the_image_at_its_short_side():
    """As torchvision's Resize(20) and CenterCrop((8, 6)) do it."""
    for image in (photo(60, 40), photo(40, 60), photo(40, 40)):
        scale = 20 / min(image.size)
        grown = image.resize(
            tuple(int(side * scale) for side in image.size), Image.Resampling.BILINEAR
        )
        left, top = round((grown.width - 6) / 2), round((grown.height - 8) / 2)
        expected = np.asarray(grown.crop((left, top, left + 6, top + 8)), np.int16)
        got = step(fit="crop", short_side=20).apply(files(encoded(image)))["x"][0]
        assert np.abs(got.astype(np.int16) - expected).max() <= 1


def test_grey_colour_palette_and_transparent_become_what_the_model_takes():
    grey = TensorSpec(name="x", dtype="UINT8", shape=(-1, 1, 4, 4))
    plain = Image.new("RGB", (4, 4), (102, 102, 102))
    variants = [encoded(plain.convert(mode)) for mode in ("L", "RGB", "RGBA", "P", "LA")]
    assert (step(grey).apply(files(*variants))["x"] == 102).all()
    colour = TensorSpec(name="x", dtype="UINT8", shape=(-1, 4, 4, 3))
    assert (step(colour).apply(files(*variants))["x"] == 102).all()


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"quality": 95}, {"subsampling": 0}])
def test_jpeg_decodes_as_its_library_decodes_it(how):
    file = encoded(photo(6, 8), "JPEG", **how)
    got = step().apply(files(file))["x"][0]
    assert np.array_equal(got, np.asarray(Image.open(io.BytesIO(file)).convert("RGB")))


def test_a_model_with_the_step_takes_files_by_the_row():
    data = onnx_model(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        inputs=[("x", TensorProto.FLOAT, ["N", 3, 8, 6])],
        outputs=[("y", TensorProto.FLOAT, ["N", 3])],
    )
    model = load_model(data, media_type="application/onnx", engine="openvino", threads=1)
    pre = [
        ImageStep(input="x"),
        NormaliseStep(input="x", scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    ]
    pipeline = with_steps(model, pre=pre, post=())
    assert pipeline.inputs == (TensorSpec(name="x", dtype="BYTES", shape=(-1,)),)
    assert pipeline.batchable
    red, white = Image.new("RGB", (30, 30), (255, 0, 0)), Image.new("RGB", (3, 3), (255,) * 3)
    answer = pipeline.infer(files(encoded(red), encoded(white, "JPEG")))["y"]
    assert np.allclose(answer, [[2, -2, -2], [2, 2, 2]], atol=0.05)


# --- files made to harm -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0" + bytes(200),
        encoded(photo())[:-40],
        encoded(photo())[:60],
        encoded(photo(), "JPEG")[:300],
        png(100, 100),  # no pixels in it
        png(0, 10, bytes(40)),
        png(8, 6, bytes(10**6)),  # more pixels than it says: read as far as it says, or refused
        encoded(photo(), "GIF"),
        encoded(photo(), "BMP"),
        encoded(photo(), "TIFF"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run",
    ],
    ids=["empty", "png", "jpeg", "jpeg0", "cut", "head", "jpegcut", "none", "zero", "over", "gif",
         "bmp", "tiff", "svg", "eps"],
)  # fmt: skip
def test_files_that_are_no_whole_image_fail_alone(file):
    decoder = step()
    try:
        assert decoder.apply(files(file))["x"].shape == (1, 8, 6, 3)
        decoded = True
    except JobFailed:
        decoded = False
    assert not decoded or file == png(8, 6, bytes(10**6))
    assert decoder.apply(files(encoded(photo())))["x"].shape == (1, 8, 6, 3)


@pytest.mark.parametrize("value", ["text", 7, None, bytearray(b"\x89PNG")])
def test_elements_that_are_no_bytes_are_refused(value):
    with pytest.raises(JobFailed):
        step().apply(files(value))


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    """A PNG of 60 KB that is 60,000 pixels wide and high: 10 GB decoded."""
    bomb = png(60_000, 60_000, bytes(60_000_000))
    assert len(bomb) < 100_000
    monkeypatch.setattr(DecodeImage, "_decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(JobFailed, match="16777216 pixels"):
        step().apply(files(bomb))


def test_bombs_that_are_small_one_by_one_are_refused_together(monkeypatch):
    one = png(1000, 1000, b"\x00" * 3_001_000)
    decoder = step(max_pixels=1_000_000)
    assert decoder.apply(files(*[one] * 4))["x"].shape == (4, 8, 6, 3)
    monkeypatch.setattr(DecodeImage, "_decode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(JobFailed, match="together"):
        decoder.apply(files(*[one] * 5))


def test_many_tiny_files_do_not_become_gigabytes():
    tiny = encoded(Image.new("L", (1, 1)))
    wide = TensorSpec(name="x", dtype="FP32", shape=(-1, 3, 512, 512))
    with pytest.raises(JobFailed, match="too many images"):
        step(wide).apply(files(*[tiny] * 1000))


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1)])
def test_a_strip_is_not_blown_up_before_it_is_cropped(size):
    """Its short side at 500 makes it 500 million pixels long: only the middle is ever made."""
    spec = TensorSpec(name="x", dtype="UINT8", shape=(-1, 500, 500, 3))
    width, height = size
    strip = png(width, height, (b"\x00" + b"\x80" * 3 * width) * height)
    got = step(spec, fit="crop").apply(files(strip))["x"]
    assert (got == 128).all()


def test_texts_in_a_png_do_not_unpack_without_end():
    text = chunk(b"zTXt", b"comment\x00\x00" + zlib.compress(bytes(100_000_000)))
    body = (b"\x00" + bytes(18)) * 8
    try:
        step().apply(files(png(6, 8, body, more=text)))
    except JobFailed:
        return
    pytest.fail("100 MB of text were unpacked from 100 KB")


def test_sixteen_bits_are_refused_not_cut():
    deep = Image.fromarray(np.full((4, 4), 60_000, np.uint16))
    with pytest.raises(JobFailed, match="8 bits"):
        step().apply(files(encoded(deep)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((-1, 3, 8), "FP32"),
        ((-1, 2, 8, 6), "FP32"),
        ((-1, 3, -1, -1), "FP32"),
        ((-1, 3, 8, 6), "INT64"),
    ],
)
def test_inputs_that_are_no_images_are_refused_at_load(shape, dtype):
    with pytest.raises(ConfigError, match="image needs"):
        step(TensorSpec(name="x", dtype=dtype, shape=shape))


def test_a_short_side_below_the_crop_is_refused():
    with pytest.raises(ConfigError, match="short_side"):
        step(fit="crop", short_side=7)


def test_the_trial_decodes_both_kinds():
    assert decode_trials().startswith("pillow ")
