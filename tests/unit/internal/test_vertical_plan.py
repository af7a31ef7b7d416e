"""`[psi]` and `[vertical]`: contradictions are refused when the file is read, with the key."""

import pytest

from wardian._internal.consortium import Consortium
from wardian._internal.settings import parse
from wardian.errors import ConfigError
from wardian.learning.planned import verify_plan

PSI = 'psi = { protocol = "tags", runs = 2, caps = { a = 10, b = 10 } }\n'
LINEAR = 'vertical = { model = "linear", placement = "features", labels = "a" }\n'
RUN = "run = { quorum = 2 }\n"


def read(text: str, *names: str) -> Consortium:
    keys = "".join(f'[parties.{n}]\nkey = "{i:02x}{"ab" * 31}"\n' for i, n in enumerate(names))
    return parse(f'name = "x"\n{text}{keys}'.encode(), Consortium, name="consortium.toml")


@pytest.mark.parametrize(
    "text",
    [
        RUN + PSI,
        RUN + LINEAR,
        RUN + PSI + LINEAR,
        RUN
        + 'vertical = { model = "linear", placement = "embeddings", labels = "b", predict = "a", '
        "noise = { mu = 1.0 } }\n",
        RUN + 'vertical = { model = "trees", placement = "bins", labels = "a", depth = 3, '
        'objective = "softmax", classes = 3 }\n',
        RUN + 'vertical = { model = "network", placement = "embeddings", labels = "a", '
        "classes = 2, embeddings = { b = 4 }, hidden = [8], noise = { mu = 1.0, clip = 0.5 } }\n",
    ],
    ids=["psi", "linear", "both", "embeddings", "trees", "network"],
)
def test_a_plan_that_can_be_run(text: str) -> None:
    verify_plan(read(text, "a", "b"))


def network(**changes: str) -> str:
    fields = {
        "model": '"network"', "placement": '"embeddings"', "labels": '"a"', "classes": "2",
        "embeddings": "{ a = 1, b = 1 }", "noise": "{ mu = 1.0 }",
    } | changes  # fmt: skip
    inner = ", ".join(f"{key} = {value}" for key, value in fields.items())
    return f"vertical = {{ {inner} }}\n"


REFUSED = {
    "nothing": (RUN, "`strategy`, `vertical` or `psi`"),
    "two at once": (RUN + LINEAR + 'strategy = { name = "fedavg" }\n', "`vertical`"),
    "psi beside a strategy": (
        "run = { quorum = 1, rounds = 1 }\n" + PSI + 'strategy = { name = "fedavg" }\n',
        "`psi`",
    ),
    "no rounds": ('run = { quorum = 1 }\nstrategy = { name = "fedavg" }\n', "`run.rounds`"),
    "rounds": ("run = { quorum = 2, rounds = 3 }\n" + LINEAR, "`run.rounds`"),
    "not all": ("run = { quorum = 1 }\n" + LINEAR, "`run.quorum`"),
    "sampled": ("run = { quorum = 2, sample = 0.5 }\n" + LINEAR, "`run.sample`"),
    "initial": ('initial = "a"\n' + RUN + LINEAR, "`initial`"),
    "masked": (RUN + LINEAR + "masking = {}\n", "`masking`"),
    "labels of a stranger": (RUN + LINEAR.replace('"a"', '"z"'), "`vertical.labels`"),
    "told to a stranger": (
        RUN + LINEAR.replace(" }", ', predict = "z" }'),
        "`vertical.predict`",
    ),
    "cap of a stranger": (RUN + PSI.replace("b = 10", "z = 10"), "`psi.caps`"),
    "no cap": (RUN + PSI.replace("a = 10, ", ""), "psi.caps"),
    "one run, and predictions": (
        RUN + PSI.replace("runs = 2", "runs = 1") + LINEAR.replace(" }", ', predict = "b" }'),
        "`psi.runs`",
    ),
    "protocol": (RUN + PSI.replace("tags", "bloom"), "psi.protocol"),
    "model": (RUN + LINEAR.replace("linear", "magic"), "vertical.model"),
    "placement of another model": (RUN + LINEAR.replace("features", "bins"), "vertical.placement"),
    "placement left out": (RUN + LINEAR.replace('placement = "features", ', ""), "placement"),
    "no noise": (RUN + LINEAR.replace("features", "embeddings"), "`vertical.noise`"),
    "noise that does nothing": (
        RUN + LINEAR.replace(" }", ", noise = { mu = 1.0 } }"),
        "`vertical.noise`",
    ),
    "no noise by name": (RUN + network(noise='"unsafe_no_noise"'), "vertical.noise"),
    "infinite mu": (RUN + network(noise="{ mu = inf }"), "vertical.noise.mu"),
    "unknown setting": (RUN + LINEAR.replace(" }", ", unsafe = true }"), "unsafe"),
    "rounds out of range": (RUN + LINEAR.replace(" }", ", rounds = 0 }"), "vertical.rounds"),
    "a party without a width": (RUN + network(embeddings="{ a = 1 }"), "`vertical.embeddings`"),
    "classes without softmax": (
        RUN + 'vertical = { model = "trees", placement = "bins", labels = "a", classes = 3 }\n',
        "`classes`",
    ),
    "too many trees": (
        RUN + 'vertical = { model = "trees", placement = "bins", labels = "a", classes = 100, '
        'objective = "softmax", rounds = 101 }\n',
        "`rounds`",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_contradiction_is_refused_with_its_key(what: str) -> None:
    text, key = REFUSED[what]
    with pytest.raises(ConfigError) as found:
        read(text, "a", "b")
    assert key in str(found.value)


def test_ecdh_is_for_two() -> None:
    text = PSI.replace("tags", "ecdh").replace("b = 10", "b = 10, c = 10")
    with pytest.raises(ConfigError, match=r"psi\.protocol"):
        read("run = { quorum = 3 }\n" + text, "a", "b", "c")
