"""Answers for homomorphic encryption: CKKS by Microsoft SEAL, through `tenseal.sealapi`.

Runs in the environment of `make he`. The client encrypts, the server has the weights in the clear
and evaluation keys, and sees no input; the client decrypts. Security: 128 bits, as SEAL's own table
has it, which refuses larger moduli. Keys are made and weights are encoded before anything is timed.

    python bench/compare/he.py FOLDER
"""

import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from asked import answer_all
from nets import Net, load_net, rows_of
from packing import Matrix, Packing, Slots, packing_of

DEGREE = 8192
"""Of the polynomials: 4096 slots, and at most 218 bits of modulus for 128 bits of security."""
SHALLOW = (60, 40, 60), 2.0**40
"""Bits of the primes, and the scale: one multiplication. 40-bit scales are TenSEAL's usual form."""
DEEP = (50, 38, 38, 38, 50), 2.0**38
"""A layer, the square, a layer: three multiplications. With 40 bits each they exceed 218."""
NETS = ("lr", "mlp", "cnn")


class Scheme:
    """Keys of one client for one depth, and both sides' tools."""

    def __init__(self, bits: tuple[int, ...], scale: float, rotations: set[int]) -> None:
        """Make keys: for relinearizing, and for the rotations that are needed alone."""
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, list(bits)))
        self.context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)  # noqa: FBT003
        if not self.context.parameters_set():
            raise SystemExit(f"SEAL refuses a modulus of {sum(bits)} bits at {DEGREE}")
        self.scale = scale
        maker = seal.KeyGenerator(self.context)
        public, self.relin, self.galois = seal.PublicKey(), seal.RelinKeys(), seal.GaloisKeys()
        maker.create_public_key(public)
        maker.create_relin_keys(self.relin)
        # SEAL takes Galois elements here, not steps.
        maker.create_galois_keys([pow(3, step, 2 * DEGREE) for step in rotations], self.galois)
        self.encryptor = seal.Encryptor(self.context, public)
        self.decryptor = seal.Decryptor(self.context, maker.secret_key())
        self.encoder = seal.CKKSEncoder(self.context)
        self.evaluator = seal.Evaluator(self.context)
        self.slots: int = self.encoder.slot_count()

    def encrypt(self, packed: Slots) -> Any:
        """Return the ciphertext of `packed`."""
        plain, cipher = seal.Plaintext(), seal.Ciphertext()
        self.encoder.encode(packed.tolist(), self.scale, plain)
        self.encryptor.encrypt(plain, cipher)
        return cipher

    def decrypt(self, cipher: Any) -> Slots:
        """Return the slots in `cipher`."""
        plain = seal.Plaintext()
        self.decryptor.decrypt(cipher, plain)
        return np.array(self.encoder.decode_double(plain))

    def encode(self, block: Slots, like: Any, scale: float) -> Any:
        """Return `block` in every block, at the level of `like`."""
        plain = seal.Plaintext()
        slots = np.tile(block, self.slots // len(block)).tolist()
        self.encoder.encode(slots, like.parms_id(), scale, plain)
        return plain

    def rotate(self, cipher: Any, step: int) -> Any:
        """Return `cipher` rotated by `step`, or itself for 0."""
        if step == 0:
            return cipher
        turned = seal.Ciphertext()
        self.evaluator.rotate_vector(cipher, step, self.galois, turned)
        return turned

    def square(self, cipher: Any) -> Any:
        """Return the square of every slot."""
        squared = seal.Ciphertext()
        self.evaluator.square(cipher, squared)
        self.evaluator.relinearize_inplace(squared, self.relin)
        self.evaluator.rescale_to_next_inplace(squared)
        return squared


class Encoded:
    """A layer whose diagonals were encoded for the level at which it is met."""

    def __init__(self, scheme: Scheme, layer: Matrix, like: Any) -> None:
        """Encode for ciphertexts like `like`, which is not changed."""
        self.scheme, self.layer = scheme, layer
        self.diagonals = [scheme.encode(each, like, scheme.scale) for _, _, each in layer.steps]
        self.bias: Any = None

    def apply(self, cipher: Any) -> Any:
        """Return the layer of `cipher`."""
        scheme, evaluator = self.scheme, self.scheme.evaluator
        turned = {baby: scheme.rotate(cipher, baby) for _, baby, _ in self.layer.steps}
        sums: dict[int, Any] = {}
        for (giant, baby, _), diagonal in zip(self.layer.steps, self.diagonals, strict=True):
            part = seal.Ciphertext()
            evaluator.multiply_plain(turned[baby], diagonal, part)
            if giant in sums:
                evaluator.add_inplace(sums[giant], part)
            else:
                sums[giant] = part
        parts = [scheme.rotate(each, giant) for giant, each in sums.items()]
        total = parts[0]
        for part in parts[1:]:
            evaluator.add_inplace(total, part)
        evaluator.rescale_to_next_inplace(total)
        for step in self.layer.doubling:
            evaluator.add_inplace(total, scheme.rotate(total, step))
        if self.bias is None:  # the scale is known from the first ciphertext on
            self.bias = scheme.encode(self.layer.bias, total, total.scale)
        evaluator.add_plain_inplace(total, self.bias)
        return total


class Server:
    """One network, ready to be asked."""

    def __init__(self, net: Net) -> None:
        """Make keys, encode the weights, and run once."""
        self.packing: Packing = packing_of(net)
        deep = len(self.packing.layers) > 1
        bits, scale = DEEP if deep else SHALLOW
        self.scheme = Scheme(bits, scale, self.packing.rotations())
        cipher = self.scheme.encrypt(np.zeros(self.scheme.slots))
        self.layers: list[Encoded] = []
        for layer in self.packing.layers:
            if self.layers:
                cipher = self.scheme.square(cipher)
            self.layers.append(Encoded(self.scheme, layer, cipher))
            cipher = self.layers[-1].apply(cipher)

    def evaluate(self, cipher: Any) -> Any:
        """Return the scores of `cipher`, encrypted."""
        for number, layer in enumerate(self.layers):
            cipher = layer.apply(self.scheme.square(cipher) if number else cipher)
        return cipher

    def key_bytes(self) -> int:
        """Return how many bytes of evaluation keys a server gets once."""
        used = [self.scheme.galois, *([self.scheme.relin] if len(self.layers) > 1 else [])]
        return sum(map(saved_bytes, used))


def saved_bytes(what: Any) -> int:
    """Return the length of `what` as SEAL writes it."""
    with tempfile.NamedTemporaryFile() as file:
        what.save(file.name)
        return Path(file.name).stat().st_size


class Answers:
    """What the program says."""

    def __init__(self, folder: Path) -> None:
        """Read nets and inputs from `folder`."""
        self._folder = folder
        self._servers: dict[str, Server] = {}
        with np.load(folder / "inputs.npz") as data:
            self._inputs = {name: data[name] for name in NETS}

    def begin(self) -> dict[str, Any]:
        """Make every server ready."""
        self._servers = {name: Server(load_net(self._folder, name)) for name in NETS}
        once = {name: server.key_bytes() for name, server in self._servers.items()}
        return {"version": f"TenSEAL {version('tenseal')}", "once_bytes": once}

    def answer(self, net: str, start: int, batch: int) -> dict[str, Any]:
        """Return scores, seconds by step and bytes of one request."""
        server = self._servers[net]
        scheme, packing = server.scheme, server.packing
        x, most = rows_of(self._inputs[net], start, batch), packing.samples(scheme.slots)
        chunks = [x[at : at + most] for at in range(0, batch, most)]
        times, cpu = [time.perf_counter()], time.process_time()
        asked = [scheme.encrypt(packing.pack(each, scheme.slots)) for each in chunks]
        times.append(time.perf_counter())
        answered = [server.evaluate(each) for each in asked]
        times.append(time.perf_counter())
        scores = [
            packing.unpack(scheme.decrypt(cipher), len(each))
            for cipher, each in zip(answered, chunks, strict=True)
        ]
        times.append(time.perf_counter())
        cpu = time.process_time() - cpu
        steps = dict(zip(("encrypt", "evaluate", "decrypt"), np.diff(times).tolist(), strict=True))
        return {
            "seconds": times[-1] - times[0],
            "cpu_s": cpu,
            "steps": steps,
            "bytes": sum(map(saved_bytes, (*asked, *answered))),
            "scores": np.concatenate(scores).tolist(),
        }


if __name__ == "__main__":
    answers = Answers(Path(sys.argv[1]))
    answer_all(answers.begin, answers.answer)
