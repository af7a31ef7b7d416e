"""Intersection for two parties who trust no enclave with tags: elliptic curves, by `openmined-psi`.

Each party blinds its identifiers with a number of its own on P-256, and has the other blind them
once more; what both have blinded is the same for the same identifier, whoever began. The library
tells this to one of two, so it is run in both directions. Whoever carries the messages sees blinded
points, and could do nothing with the one party's number either; it needs both. The protocol is for
parties who keep to it: one that does not still learns no more than about as many identifiers of its
choosing as the terms allow.

A coordinator that was broken into could ask in a party's name for what it guesses. So messages are
authenticated under a key that the two parties agree as in the other protocol; under the same key
they order what they have in common, so that the order of rows tells nobody of identifiers.

It costs some 215 CPU seconds a direction for a million identifiers of each party: see
`bench/learning/psi.py`. Needs the extra `psi`.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wardian._internal import wire
from wardian.crypto.group_key import KEPT_BYTES
from wardian.crypto.secret import Secret
from wardian.crypto.signing import Signer
from wardian.errors import (
    AuthenticationFailed,
    ConfigError,
    FormatError,
    LocalProtocolError,
)
from wardian.learning.arrays import ArrayRecord
from wardian.learning.psi.messages import ANSWER, REQUEST, SETUP
from wardian.learning.psi.party import PsiMember
from wardian.learning.psi.tags import tags
from wardian.learning.psi.terms import PsiTerms
from wardian.learning.received import array_of
from wardian.learning.records import RecordDict

MAC_BYTES: Final = 32
BLINDING_BYTES: Final = 32
"""Of a number that blinds: a scalar of P-256."""
_LABEL: Final = "wardian psi ecdh v1"
_EXACT: Final = 1e-9
"""False positives that the library's other structures may have; the one used here has none."""


class EcdhParty(PsiMember):
    """One run of one of two parties.

    share, deal -> begin -> setup and request, to the other -> answer, to the other's request
    -> learn, from the other's setup and answer
    """

    def __init__(
        self,
        terms: PsiTerms,
        *,
        run: bytes,
        name: str,
        signer: Signer,
        identifiers: Sequence[str] | Sequence[bytes],
        runs_before: int,
        kept: Secret | None = None,
    ) -> None:
        """Take part as `name`; see `PsiMember`.

        Raises:
            ConfigError: the extra `psi` is not installed, the terms are not of two parties, or an
                identifier is not UTF-8, which the library needs.
        """
        super().__init__(
            terms,
            run=run,
            name=name,
            signer=signer,
            identifiers=identifiers,
            runs_before=runs_before,
            kept=None if kept is None else Secret(kept.reveal()[:KEPT_BYTES]),
        )
        if len(terms.parties) != 2:
            raise ConfigError("psi: ecdh is for two parties")
        (self._other,) = set(terms.parties) - {name}
        try:
            self._texts = [each.decode() for each in self._identifiers]
        except UnicodeDecodeError as err:
            raise ConfigError("psi: ecdh takes identifiers that are UTF-8") from err
        self._library = _library()
        client, server = self._library.client, self._library.server
        if kept is None:
            self._client = client.CreateWithNewKey(True)  # noqa: FBT003 (the library's)
            self._server = server.CreateWithNewKey(True)  # noqa: FBT003
        else:
            blinding = kept.reveal()[KEPT_BYTES:]
            self._client = client.CreateFromKey(blinding[:BLINDING_BYTES], True)  # noqa: FBT003
            self._server = server.CreateFromKey(blinding[BLINDING_BYTES:], True)  # noqa: FBT003
        self._agreed: Secret | None = None

    @property
    @override
    def kept(self) -> Secret:
        """See `PsiMember`; with it, the two numbers that blind."""
        numbers = (self._client.GetPrivateKeyBytes(), self._server.GetPrivateKeyBytes())
        whole = b"".join(bytes(each).rjust(BLINDING_BYTES, b"\0") for each in numbers)
        return Secret(super().kept.reveal() + whole)

    def begin(self, content: RecordDict) -> None:
        """Take in the deal, with all shares: the key of this run.

        Raises:
            FormatError, AuthenticationFailed: it is not that of these parties and this run.
        """
        self._agreed = self._key(content)

    def setup(self) -> RecordDict:
        """Return its identifiers, blinded, in an order that says nothing."""
        exact = self._library.DataStructure.RAW
        cap = self._terms.caps[self._other]
        made = self._server.CreateSetupMessage(_EXACT, cap, self._texts, exact)
        return self._said(SETUP, made.SerializeToString())

    def request(self) -> RecordDict:
        """Return its identifiers, blinded, for the other to blind once more."""
        return self._said(REQUEST, self._client.CreateRequest(self._texts).SerializeToString())

    def answer(self, content: RecordDict) -> RecordDict:
        """Return what the other asks for in `content`, its request, blinded once more.

        Raises:
            AuthenticationFailed: the other did not make it.
            FormatError: it is no request.
            PolicyDenied: it asks for more than the other may submit (rule `psi-size`).
        """
        request = self._parsed(self._library.Request, self._heard(REQUEST, content))
        self._terms.demand_size(self._other, len(request.encrypted_elements))
        try:
            made = self._server.ProcessRequest(request)
        except RuntimeError as err:
            raise FormatError("psi: the request is not one of this protocol") from err
        return self._said(ANSWER, made.SerializeToString())

    def learn(self, setup: RecordDict, answer: RecordDict) -> NDArray[Any]:
        """Return which of its identifiers both have: places, int64, in the common order.

        Args:
            setup: the other's.
            answer: the other's, to the request of this party.

        Raises:
            AuthenticationFailed: the other did not make them.
            FormatError: they are not of this protocol.
            PolicyDenied: the setup lists more than the other may submit (rule `psi-size`).
        """
        blinded = self._parsed(self._library.ServerSetup, self._heard(SETUP, setup))
        if blinded.WhichOneof("data_structure") != "raw":
            raise FormatError("psi: the setup is to list the other's identifiers, blinded")
        self._terms.demand_size(self._other, len(blinded.raw.encrypted_elements))
        again = self._parsed(self._library.Response, self._heard(ANSWER, answer))
        if len(again.encrypted_elements) != len(self._texts):
            raise FormatError("psi: the answer is not as long as the request was")
        try:
            found = np.array(self._client.GetIntersection(blinded, again), np.int64)
        except RuntimeError as err:
            raise FormatError("psi: the answer is not one of this protocol") from err
        own = tags(self._begun(), [self._identifiers[place] for place in found])
        return found[np.lexsort((own[:, 1], own[:, 0]))]

    def _said(self, kind: str, payload: bytes) -> RecordDict:
        whole = payload + self._mac(self._name, kind, payload)
        return RecordDict({kind: ArrayRecord({kind: np.frombuffer(whole, np.uint8)})})

    def _heard(self, kind: str, content: RecordDict) -> bytes:
        whole = array_of(content, kind, kind, dtype="uint8", shape=(None,)).tobytes()
        payload, mac = whole[:-MAC_BYTES], whole[-MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(self._other, kind, payload)):
            raise AuthenticationFailed(f"psi: the {kind} is not the other party's")
        return payload

    def _mac(self, author: str, kind: str, payload: bytes) -> bytes:
        about = wire.fields(_LABEL, author.encode(), kind.encode(), payload)
        return hmac.digest(self._begun().reveal(), about, hashlib.sha256)

    def _begun(self) -> Secret:
        if self._agreed is None:
            raise LocalProtocolError("the parties have not agreed the key yet")
        return self._agreed

    @staticmethod
    def _parsed(kind: Any, payload: bytes) -> Any:
        from google.protobuf.message import DecodeError  # noqa: PLC0415 (comes with the library)

        message = kind()
        try:
            message.ParseFromString(payload)
        except DecodeError as err:
            raise FormatError("psi: not a message of this protocol") from err
        return message


def _library() -> Any:
    try:
        import private_set_intersection.python as openmined  # noqa: PLC0415 (an extra)
    except ImportError as err:
        raise ConfigError("psi: ecdh needs the extra `psi`: pip install wardian[psi]") from err
    return openmined
