# SPDX-License-Identifier: Apache-2.0
"""Where a benchmark runs: `with connect(master) as ready:` starts what `master` names, and ends it.

The package knows clusters: what they are, how to start and end ours, whether one fits its driver. It may import
`spark`, `machine` and the ground modules.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from suite.cluster.description import DEFAULT_MEMORY, Cluster
from suite.cluster.standalone import standalone
from suite.spark.session import ON_LOOPBACK

# How the names of variables begin that lead Spark to a cluster which is somewhere else.
OF_A_CLUSTER = ("SPARK_CONF_DIR", "HADOOP_", "YARN_")


@contextlib.contextmanager
def connect(
    master: str,
    workers: int = 2,
    cores: int = 1,
    memory: str = DEFAULT_MEMORY,
    *,
    logs: Path,
) -> Iterator[Cluster]:
    """Start the master to run on, if it is one of ours.

    Parameters
    ----------
    master : str
        `standalone` starts master and workers as local processes, and ends them with the block. Any other is a
        master that Spark knows and that is there already.
    workers, cores, memory
        See `standalone.standalone`; a master that is there already ignores them.
    logs : Path
        Folder for logs of what is started.

    Yields
    ------
    Cluster

    Raises
    ------
    ClusterError
        The cluster did not start.
    """
    if master == "standalone":
        with standalone(workers, cores, memory, logs=logs) as ready:
            yield ready
    else:
        yield existing_cluster(master)


def existing_cluster(master: str) -> Cluster:
    """Describe a cluster that is there already.

    Inside the `bench` container, what the suite outside knows of its own cluster comes in a variable.
    """
    told = os.environ.get("FOLDOUT_CLUSTER")
    known = Cluster(**json.loads(told)) if told else None
    ready = known if known and known.url == master else Cluster(url=master, label=master)
    # Settings for local mode are the suite's own; a cluster that is somewhere else needs the user's, and those of its
    # Hadoop. In local mode these would look for plain paths in HDFS.
    if master.startswith("local"):
        # Spark would look up this machine's own name, which not every network knows.
        ready.environment.update(ON_LOOPBACK)
    else:
        found = {name: value for name, value in os.environ.items() if name.startswith(OF_A_CLUSTER) and value}
        ready.environment.update(found)
    return ready
