"""What the role `zoo` serves over HTTPS, under the operator's certificate and key."""

import asyncio
import logging

from wardian._internal.agreed import Agreed, ZooDialect
from wardian._internal.clock import unix_time
from wardian._internal.log import event
from wardian._internal.metrics import Metrics
from wardian.crypto.pkcs12 import Keystore
from wardian.errors import ConfigError, FormatError
from wardian.roles.host import ZooHttpsPlace
from wardian.roles.zoo_keystore import time_trouble
from wardian.serving.api.zoo.dialect import ZooRoutes
from wardian.serving.api.zoo.tokens import Rationing
from wardian.serving.dispatch_metrics import CountingDispatcher
from wardian.serving.http.tls import TlsIdentity
from wardian.serving.keystore_front import KeystoreFront

log = logging.getLogger(__name__)


def open_front(
    keystore: Keystore,
    place: ZooHttpsPlace,
    terms: ZooDialect,
    *,
    agreed: Agreed,
    dispatcher: CountingDispatcher,
    metrics: Metrics,
) -> KeystoreFront:
    """Return the server; it does not listen yet.

    Args:
        keystore: certificate and key.
        place: as the operator says.
        terms: as the owner says.
        agreed: models and limits.
        dispatcher: does the inferences.
        metrics: counts.

    Raises:
        ConfigError: TLS does not take this certificate.
    """
    event(log, "zoo.keystore", sha256=keystore.fingerprint.hex(), until=keystore.not_after)
    trouble = time_trouble(keystore, now=unix_time())
    if trouble is not None:
        event(log, "zoo.keystore_time", level=logging.WARNING, said=trouble)
    rationing = None
    if place.tokens_per_second is not None:
        rationing = Rationing(
            place.tokens_per_second,
            wait_s=place.token_wait_ms / 1000,
            most_waiting=agreed.limits.max_waiting,
            later=asyncio.get_running_loop().call_later,
        )
    routes = ZooRoutes(
        terms, models=agreed.models, ration=None if rationing is None else rationing.limit
    )
    try:
        return KeystoreFront(
            dispatcher=dispatcher,
            limits=agreed.limits,
            identity=TlsIdentity(chain_pem=keystore.chain_pem, key=keystore.key),
            routes=routes,
            metrics=metrics,
        )
    except FormatError as err:
        raise ConfigError(f"operator.toml: [zoo] keystore: {err}") from err
