"""Make the vectors here with the library `tokenizers`, which nothing of Wardian depends on.

In an environment of its own: `pip install tokenizers==0.23.3`, then `python make_vectors.py`. The
vocabularies are trained on the sentences below; the cases are sentences, and texts that are hard.
"""

# ruff: noqa: RUF001  the letters are meant
import json
import random
import tempfile
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

HERE = Path(__file__).parent
SENTENCES = """
The owner seals a model, and an enclave opens it: nobody else reads what is in it.
She sells sea shells by the sea shore; the shells she sells are sea shells, I'm sure.
We'll see whether they've done it, or he'd rather wait. It's not what I'd call a day's work!
Tokens are numbers: 1, 22, 333, 4444 and 3.14159; prices of $9.99 or 50% off.
Schöne Grüße aus München, où l'été est très doux, y el niño mañana también estará aquí.
Москва не сразу строилась. Ο λόγος του ΟΔΥΣΣΕΥΣ. 東京は日本の首都です。 서울은 대한민국의 수도이다.
def encode(text, most):  # snake_case and CamelCase, tabs\tand    spaces
    return [number for number in text.split() if number != ""]
Reading, readers, readable, unreadable, unread, rereading, misreading: the reader reads.
""".strip().splitlines()
HARD = [
    "", " ", "   ", "\n", "\t\r\n", "a", "A", "ab", "é", "e\u0301", "É", "İstanbul", "ﬁne", "ß", "ẞ",
    "[CLS] [SEP] [PAD] [UNK] [MASK]", "<|endoftext|>", "##reader", "re##ad", "don't DON'T don’t",
    "a" * 99, "a" * 100, "a" * 101, "a" * 300, "ab" * 150, "x" * 17, "aaaaabaaaaab",
    "hello\u0000world", "zero\u200bwidth", "soft\u00adhyphen", "\ufffd", "\ufeffbom", "\u2028line\u2029",
    "nbsp\u00a0here", "ideographic\u3000space", "\x0bvt\x0cff\x1cfs\x85nel", "tab\tand  two spaces  ",
    "漢字とかな", "한국어", "ไทย", "עברית", "العربية", "हिन्दी", "🙂 👩‍👩‍👧‍👦 🇩🇪", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "½ ² Ⅷ ٣",
    "ΟΔΥΣΣΕΥΣ Σ ΣΣ", "Ǆ ǅ ǆ", "ŉ", "ᾂ", "…", "—dash–dash", "!?.,;:", "a.b,c;d", "$9.99 + 50%", "_x_y_",
    "'s't're've'm'll'd", " 's", "I'm you're we'll he'd they've it's can't", "1a2b3c", "12345678901234567890",
    "  leading", "trailing  ", "a  b   c    d", "\n\nnew\n lines\n", "e\u0301\u0323\u0301", "\U0010ffff",
    "\u0378", "\ue000", "\u180e", "\u1680ogham", "\u202fnarrow",
]  # fmt: skip


def texts() -> list[str]:
    chance = random.Random(7)
    pool = "".join(SENTENCES) + "".join(HARD)
    mixed = ["".join(chance.choices(pool, k=chance.randrange(1, 60))) for _ in range(120)]
    return [*SENTENCES, *HARD, *mixed]


def wordpiece(*, lowercase: bool) -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = BertPreTokenizer()
    return made


def main() -> None:
    cases: dict[str, list[object]] = {"cased": [], "uncased": [], "bpe": []}
    for name in ("cased", "uncased"):
        trained = wordpiece(lowercase=name == "uncased")
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        trained.train_from_iterator(
            SENTENCES, trainers.WordPieceTrainer(vocab_size=420, special_tokens=special)
        )
        numbers = trained.get_vocab()
        (HERE / f"{name}.txt").write_text(
            "".join(f"{token}\n" for token in sorted(numbers, key=numbers.__getitem__))
        )
        plain = wordpiece(lowercase=name == "uncased")  # special tokens in texts are text
        plain.model = models.WordPiece(numbers, unk_token="[UNK]")
        cases[name] = [[text, plain.encode(text).ids] for text in texts()]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(SENTENCES, vocab_size=600, special_tokens=["<|endoftext|>"])
    with tempfile.TemporaryDirectory() as directory:
        trained.save_model(directory)
        for part in ("vocab.json", "merges.txt"):
            (HERE / part).write_text((Path(directory) / part).read_text())
    plain = Tokenizer(models.BPE.from_file(str(HERE / "vocab.json"), str(HERE / "merges.txt")))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    cases["bpe"] = [[text, plain.encode(text).ids] for text in texts()]
    (HERE / "cases.json").write_text(
        "{\n"
        + ",\n".join(
            f'"{name}": [\n' + ",\n".join(map(json.dumps, each)) + "\n]"
            for name, each in cases.items()
        )
        + "\n}\n"
    )


main()
