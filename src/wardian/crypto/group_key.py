"""A key that parties have in common, and whoever carries their messages has not. Pure.

1. Each party makes an X25519 key for this run alone and signs it: its share, 96 bytes.
2. The dealer, the first of the parties by name, verifies the shares, draws 32 bytes, seals them to
   each other share (HPKE) and signs the whole: the deal.
3. Each party verifies shares and deal, opens what is sealed to its own share, and derives the key
   from the 32 bytes and from all shares. A check value in the deal shows that all have the same.

Every share is fresh, so nothing of an earlier run opens or fits, whoever repeats it; and the key is
another one in each run even if a dealer draws the same bytes twice. Who carries the messages can
withhold them, no more. Any party can give the key away: against that nothing here protects.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from typing_extensions import override

from wardian._internal import wire
from wardian.crypto.hpke import KEY_BYTES, OVERHEAD_BYTES, HpkePrivateKey, hpke_seal
from wardian.crypto.kdf import hkdf
from wardian.crypto.secret import Secret
from wardian.crypto.signing import SIGNATURE_BYTES, Signer, verify_signature
from wardian.errors import AuthenticationFailed, FormatError, LocalProtocolError, PolicyDenied

SHARE_BYTES: Final = KEY_BYTES + SIGNATURE_BYTES
CHECK_BYTES: Final = 16
SEALED_BYTES: Final = KEY_BYTES + OVERHEAD_BYTES
KEPT_BYTES: Final = 2 * KEY_BYTES + SHARE_BYTES
"""Of `GroupKeyMember.kept`."""
MAX_MEMBERS: Final = 1024

_SHARE_LABEL: Final = "wardian group key share v1"
_TRANSCRIPT_LABEL: Final = "wardian group key transcript v1"
_SEAL_LABEL: Final = "wardian group key seal v1"
_DEAL_LABEL: Final = "wardian group key deal v1"
_KEY_INFO: Final = b"wardian group key v1"
_CHECK_INFO: Final = b"wardian group key check v1"


class Group:
    """Who takes part in one agreement, and for what: the same for every member.

    Attributes:
        names: of the members, sorted.
        dealer: the first of them.
    """

    __slots__ = ("_about", "_keys", "dealer", "names")

    def __init__(self, members: Mapping[str, bytes], *, use: str, run: bytes) -> None:
        """Agree among `members`.

        Args:
            members: the public key by which each is known, already trusted; 32 or 33 bytes.
            use: what the key is for; two uses never share one.
            run: names the run, 1 byte or more.

        Raises:
            LocalProtocolError: fewer than two members, too many, or one key twice.
        """
        if not 1 < len(members) <= MAX_MEMBERS or len(set(members.values())) < len(members):
            raise LocalProtocolError(f"2 to {MAX_MEMBERS} members, each with a key of its own")
        self.names = tuple(sorted(members))
        self.dealer = self.names[0]
        self._keys = dict(members)
        known = [part for name in self.names for part in (name.encode(), members[name])]
        self._about = wire.fields(use, run, *known)

    def verify_share(self, name: str, share: bytes) -> None:
        """Return if `share` is one that `name` made for this run.

        Raises:
            PolicyDenied: `name` is no member (rule `group-member`).
            FormatError: not 96 bytes.
            AuthenticationFailed: `name` did not sign it, or not for this run and these members.
        """
        if name not in self._keys:
            raise PolicyDenied("the key is agreed among others", rule="group-member")
        if len(share) != SHARE_BYTES:
            raise FormatError(f"share: {SHARE_BYTES} bytes are needed")
        public, signature = share[:KEY_BYTES], share[KEY_BYTES:]
        verify_signature(self._keys[name], signature, self.share_message(name, public))

    def share_message(self, name: str, public: bytes) -> bytes:
        """Return what `name` signs to say that `public` is its key for this run."""
        return wire.fields(_SHARE_LABEL, self._about, name.encode(), public)

    def verify_deal(self, transcript: bytes, deal: bytes) -> None:
        """Return if `deal` is what the dealer made for the shares of `transcript`.

        Raises:
            FormatError: it has another length.
            AuthenticationFailed: the dealer did not sign it, or for other shares.
        """
        if len(deal) != CHECK_BYTES + (len(self.names) - 1) * SEALED_BYTES + SIGNATURE_BYTES:
            raise FormatError("deal: not as long as the members are many")
        body, signature = deal[:-SIGNATURE_BYTES], deal[-SIGNATURE_BYTES:]
        message = wire.fields(_DEAL_LABEL, transcript, body)
        verify_signature(self._keys[self.dealer], signature, message)

    def transcript(self, shares: Mapping[str, bytes]) -> bytes:
        """Return the digest, 32 bytes, of who takes part and of everybody's verified share.

        Raises:
            FormatError: a member's share is missing, or has another length.
            PolicyDenied, AuthenticationFailed: a share is not its member's.
        """
        if set(shares) != set(self.names):
            raise FormatError("shares: one of each member is needed")
        for name in self.names:
            self.verify_share(name, shares[name])
        whole = wire.fields(_TRANSCRIPT_LABEL, self._about, *(shares[n] for n in self.names))
        return hashlib.sha256(whole).digest()


class GroupKeyMember:
    """One member's side of one agreement."""

    __slots__ = ("_dealt", "_group", "_name", "_private", "_secret", "_share", "_signer")

    def __init__(
        self, group: Group, *, name: str, signer: Signer, kept: Secret | None = None
    ) -> None:
        """Take part as `name`, with a fresh X25519 key, or go on with what was `kept`.

        Raises:
            PolicyDenied: `name` is no member (rule `group-member`).
            AuthenticationFailed: `signer` has another key than the members know `name` by.
            FormatError: `kept` is not what this member kept of this agreement.
        """
        self._group, self._name, self._signer = group, name, signer
        if kept is None:
            self._private, self._secret = HpkePrivateKey.generate(), Secret.random(KEY_BYTES)
            public = self._private.public
            self._share = public + signer.sign(group.share_message(name, public))
        else:
            if len(kept) != KEPT_BYTES:
                raise FormatError("group key: what was kept has another length")
            raw = kept.reveal()
            self._private = HpkePrivateKey.from_secret(Secret(raw[:KEY_BYTES]))
            self._secret = Secret(raw[KEY_BYTES : 2 * KEY_BYTES])
            self._share = raw[2 * KEY_BYTES :]
        if self._share[:KEY_BYTES] != self._private.public:
            raise FormatError("group key: what was kept does not belong together")
        group.verify_share(name, self._share)
        self._dealt: tuple[bytes, bytes] | None = None

    @property
    def kept(self) -> Secret:
        """What this member needs to go on after its process ended. Only for its own disk."""
        return Secret(self._private.to_secret().reveal() + self._secret.reveal() + self._share)

    @override
    def __repr__(self) -> str:
        return f"GroupKeyMember({self._name})"

    @property
    def share(self) -> bytes:
        """What the others get from this member, 96 bytes; no secret."""
        return self._share

    def deal(self, shares: Mapping[str, bytes]) -> bytes:
        """Return what the dealer says to all; for the same shares always the same.

        Args:
            shares: of every member, by name, untrusted.

        Raises:
            LocalProtocolError: this member is not the dealer.
            PolicyDenied: it has dealt to other shares before (rule `group-deal-once`).
            FormatError, AuthenticationFailed: a share is missing, or is not its member's.
        """
        if self._name != self._group.dealer:
            raise LocalProtocolError("the first member by name deals, nobody else")
        transcript = self._transcript(shares)
        if self._dealt is None:
            self._dealt = transcript, self._deal(transcript, shares)
        if self._dealt[0] != transcript:
            raise PolicyDenied("it dealt to other shares before", rule="group-deal-once")
        return self._dealt[1]

    def _deal(self, transcript: bytes, shares: Mapping[str, bytes]) -> bytes:
        body = _check_value(self._secret, transcript)
        for name in self._group.names[1:]:
            info = wire.fields(_SEAL_LABEL, transcript, name.encode())
            body += hpke_seal(shares[name][:KEY_BYTES], self._secret.reveal(), info=info)
        return body + self._signer.sign(wire.fields(_DEAL_LABEL, transcript, body))

    def key(self, shares: Mapping[str, bytes], deal: bytes) -> Secret:
        """Return the key, 32 bytes, that every member has who was shown the same.

        Args:
            shares: of every member, by name, untrusted.
            deal: the dealer's, untrusted.

        Raises:
            FormatError: a share is missing, or a length is wrong.
            AuthenticationFailed: a share is not its member's, the deal is not the dealer's for
                these shares, or it holds no key for this member.
        """
        transcript = self._transcript(shares)
        self._group.verify_deal(transcript, deal)
        secret = (
            self._secret if self._name == self._group.dealer else self._opened(transcript, deal)
        )
        if _check_value(secret, transcript) != deal[:CHECK_BYTES]:
            raise AuthenticationFailed("deal: the key in it is not that of the others")
        return hkdf(secret, salt=transcript, info=_KEY_INFO)

    def _opened(self, transcript: bytes, deal: bytes) -> Secret:
        at = CHECK_BYTES + (self._group.names.index(self._name) - 1) * SEALED_BYTES
        info = wire.fields(_SEAL_LABEL, transcript, self._name.encode())
        secret = self._private.open(deal[at : at + SEALED_BYTES], info=info)
        return Secret(secret)

    def _transcript(self, shares: Mapping[str, bytes]) -> bytes:
        transcript = self._group.transcript(shares)
        if shares[self._name] != self._share:  # of an earlier run: whoever has its key could open
            raise AuthenticationFailed("shares: this member's own is another one")
        return transcript


def _check_value(secret: Secret, transcript: bytes) -> bytes:
    """Return what shows that two members hold the same 32 bytes, and nothing else of them."""
    return hkdf(secret, salt=transcript, info=_CHECK_INFO, length=CHECK_BYTES).reveal()
