"""The keys, certificates and keystores of a Flink cluster of our own, and of who submits to it.

The broker gives a server's certificate to whoever asks, so its CA proves nothing about who runs
code on a cluster. Here it is the certificate itself that is trusted: one pair for the cluster's own
processes (as Flink's documentation has it for internal connections, and on its REST server), one
for who submits, and each truststore holds exactly the other's certificate.
"""

import secrets
from pathlib import Path

from wardian._internal.files import replace_file
from wardian.broker.certificates import chain_pem
from wardian.cli.engines.infrastructure import Pair
from wardian.crypto.java_keystores import keystore, truststore
from wardian.engines.flink import place as names
from wardian.engines.flink.place import FlinkTls


def write_flink_files(directory: Path, *, cluster: Pair, client: Pair) -> FlinkTls:
    """Write all files of `FlinkTls` for this user alone, under a fresh password.

    Args:
        directory: becomes ours alone (mode 0700); absolute.
        cluster: of the cluster's processes, for the address by which they are reached; for servers
            and for clients.
        client: of who submits.

    Raises:
        FormatError: a certificate is none, or of another key.
        ConfigError: the files cannot be written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    password = secrets.token_hex(32)
    trusts_cluster = truststore(cluster.certificate, password=password)
    trusts_client = truststore(client.certificate, password=password)
    cluster_store = keystore(cluster.key, certificate=cluster.certificate, password=password)
    client_store = keystore(client.key, certificate=client.certificate, password=password)
    contents = {
        names.INTERNAL_KEYSTORE: cluster_store.reveal(),
        names.INTERNAL_TRUSTSTORE: trusts_cluster,
        names.REST_KEYSTORE: cluster_store.reveal(),
        names.REST_TRUSTSTORE: trusts_client,
        names.CLIENT_KEYSTORE: client_store.reveal(),
        names.CLIENT_TRUSTSTORE: trusts_cluster,
        names.CLIENT_CERTIFICATE: chain_pem((client.certificate,)),
        names.CLIENT_KEY: client.key.private_pem().reveal(),
        names.SERVER_CERTIFICATE: chain_pem((cluster.certificate,)),
    }
    for name, content in contents.items():
        replace_file(directory / name, content)
    return FlinkTls(directory=directory, password=password)
