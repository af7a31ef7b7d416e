"""Queue and request keys of models: the broker made them, for one epoch, and no line names them."""

from wardian.broker.release.policy import Entitlement
from wardian.broker.release.protocol import ReleasedSecret, queue_key_id
from wardian.broker.release.request_keys import public_of, request_key_id
from wardian.broker.state.store import Store
from wardian.crypto.secret import Secret
from wardian.errors import SealError


class EpochKeys:
    """Looks them up in the broker's store. One thread."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        """Look into `store`."""
        self._store = store

    def secret(self, entitled: Entitlement, epoch: int) -> ReleasedSecret:
        """Return the queue or request key of a model in `epoch`.

        Raises:
            SealError: the store lacks the key, which it must have.
        """
        find = self._request_secret if entitled.kind == "request" else self._queue_secret
        return find(entitled.model, epoch)

    def request_public(self, model: str) -> bytes:
        """Return the public half of a model's request key, 32 bytes.

        Raises:
            SealError: the store lacks the key, which it must have.
        """
        return public_of(self._request_key(model))

    def _request_key(self, model: str) -> Secret:
        key = self._store.get("request-key", model)
        if key is None:
            raise SealError("the broker's state has no request key for a model of the manifest")
        return Secret(key)

    def _request_secret(self, model: str, epoch: int) -> ReleasedSecret:
        secret = self._request_key(model)
        return ReleasedSecret(
            kind="request",
            model=model,
            version=None,
            epoch=epoch,
            key_id=request_key_id(public_of(secret)).hex(),
            key=secret,
        )

    def _queue_secret(self, model: str, epoch: int) -> ReleasedSecret:
        key = self._store.get("queue-key", model)
        if key is None:
            raise SealError("the broker's state has no queue key for a model of the manifest")
        secret = Secret(key)
        return ReleasedSecret(
            kind="queue",
            model=model,
            version=None,
            epoch=epoch,
            key_id=queue_key_id(secret).hex(),
            key=secret,
        )
