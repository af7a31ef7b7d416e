"""How a role reaches the queue's Redis: where the host says, as whom the broker says."""

from wardian.broker.certificates import chain_pem
from wardian.broker.release.admission import Admission
from wardian.crypto.secret import Secret
from wardian.errors import LocalProtocolError
from wardian.roles.host import HostSettings
from wardian.serving.queue.frames import Address
from wardian.serving.queue.redis_access import RedisAccess


def redis_access(host: HostSettings, admission: Admission) -> RedisAccess:
    """Return the access that `admission` gave, with a password of its own.

    An admission is wiped when its successor is taken up, which may still be on its way then.

    Args:
        host: says where Redis is; a lie costs service and nothing else.
        admission: for which access was asked, since `host` names a Redis.
    """
    grant = admission.queue_access
    if grant is None:
        raise LocalProtocolError("no access to Redis was asked for")
    return RedisAccess(
        addresses=tuple(Address(host=address, port=port) for address, port in host.redis),
        server_name=host.redis_name,
        username=grant.username,
        password=Secret(grant.password.reveal()),
        ca_der=grant.infrastructure_ca,
        certificate_chain_pem=chain_pem((grant.certificate,)),
        key=admission.tls_key,
        mesh=admission.manifest.manifest.mesh,
        sentinel=host.sentinel,
    )
