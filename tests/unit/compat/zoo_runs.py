"""`wardian migrate` on files in a test's own directory, and what it wrote, read back."""

from pathlib import Path

from click.testing import CliRunner

from wardian._internal.agreed import Agreed
from wardian._internal.operator import Operator
from wardian._internal.settings import parse
from wardian.cli.migrate import migrate
from wardian.cli.up.example import Source
from wardian.inference.model import load_model

IR = "application/vnd.wardian.openvino-ir"
OWNER = bytes(32)


def run(tmp_path: Path, config: str, *options: str, servables: str | None = None, flags: str = ""):
    (tmp_path / "config.yaml").write_text(config)
    arguments = [str(tmp_path / "config.yaml"), "--out", str(tmp_path / "out"), *options]
    if servables is not None:
        (tmp_path / "servables.yaml").write_text(servables)
        arguments += ["--servables", str(tmp_path / "servables.yaml")]
    arguments += ["--", *flags.split()] if flags else []
    return CliRunner().invoke(migrate, arguments)


def written(tmp_path: Path) -> tuple[Source, Agreed, Operator]:
    source = Source.read(tmp_path / "out")
    agreed = parse(source.render_agreed(OWNER), Agreed, name="wardian.toml")
    return source, agreed, parse(source.operator_raw, Operator, name="operator.toml")


def load(tmp_path: Path, file: str):
    data = (tmp_path / "out" / file).read_bytes()
    return load_model(data, media_type=IR, engine="openvino", threads=1)
