"""Start Ray on the executors of a Spark cluster, and hold it until standard input closes.

Prints the address as `ray HOST:PORT`. SPARK_MASTER names the cluster; without it Spark starts one
executor in a process of this machine.
"""

import os
import sys

import ray
from pyspark.sql import SparkSession
from ray.util.spark import setup_ray_cluster, shutdown_ray_cluster

NEEDED = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT", "RAY_AUTH_TOKEN_PATH")
STORE_BYTES = 80_000_000
HEAP_BYTES = 300_000_000


def demand_protection() -> None:
    """End with status 2 unless Ray will use TLS and a token: it would start without."""
    missing = [name for name in NEEDED if name not in os.environ]
    if os.environ.get("RAY_USE_TLS") != "1" or os.environ.get("RAY_AUTH_MODE") != "token":
        missing += ["RAY_USE_TLS=1", "RAY_AUTH_MODE=token"]
    if missing:
        print("error: not set:", ", ".join(missing), file=sys.stderr)
        sys.exit(2)


def count_nodes(address: str) -> int:
    """Return how many nodes Ray has once a task has run on one of Spark's executors."""
    ray.init(address, log_to_driver=False)
    pid = ray.remote(num_cpus=1)(lambda: os.getpid())  # noqa: PLW0108 - a builtin is none to Ray
    ray.get(pid.remote(), timeout=90)
    return len(ray.nodes())


def main() -> None:
    """Run it."""
    demand_protection()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_REPORT_URL"] = "http://127.0.0.1:9/"  # it reports that it is off
    master = os.environ.get("SPARK_MASTER", "local-cluster[1,1,1024]")
    builder = SparkSession.builder.master(master).appName("ray-on-spark")
    spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    address, _ = setup_ray_cluster(
        max_worker_nodes=1,
        min_worker_nodes=1,
        num_cpus_head_node=0,
        num_cpus_worker_node=1,  # CPUs and GPUs are given together, or neither
        num_gpus_worker_node=0,
        memory_head_node=HEAP_BYTES,
        memory_worker_node=HEAP_BYTES,
        object_store_memory_head_node=STORE_BYTES,
        object_store_memory_worker_node=STORE_BYTES,
        head_node_options={"include_dashboard": False},
    )
    try:
        nodes = count_nodes(address)
        print(f"ray {address} {nodes} nodes", flush=True)
        sys.stdin.read()
    finally:
        ray.shutdown()
        shutdown_ray_cluster()
        spark.stop()


if __name__ == "__main__":
    main()
