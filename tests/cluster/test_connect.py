# SPDX-License-Identifier: Apache-2.0
"""What a driver gets of a user's own settings, by the place where Spark runs."""

import pytest

from suite.cluster.connect import existing_cluster
from suite.machine.processes import child_environment
from suite.spark.session import ON_LOOPBACK

OF_THE_USER = {"SPARK_CONF_DIR": "/etc/spark", "HADOOP_CONF_DIR": "/etc/hadoop", "YARN_CONF_DIR": "/etc/yarn"}


@pytest.mark.parametrize("master", ["local[2]", "local-cluster[2,1,1024]"])
def test_local_mode_has_nothing_of_another_spark_or_hadoop(master, monkeypatch):
    for name, value in OF_THE_USER.items():
        monkeypatch.setenv(name, value)
    environment = child_environment() | existing_cluster(master).environment
    assert not OF_THE_USER.keys() & environment.keys()
    assert ON_LOOPBACK.items() <= environment.items()


@pytest.mark.parametrize("master", ["spark://host:7077", "yarn", "k8s://https://host:6443"])
def test_a_cluster_elsewhere_is_reached_by_the_users_settings(master, monkeypatch):
    for name, value in OF_THE_USER.items():
        monkeypatch.setenv(name, value)
    assert existing_cluster(master).environment == OF_THE_USER
    monkeypatch.setenv("SPARK_CONF_DIR", "")
    assert "SPARK_CONF_DIR" not in existing_cluster(master).environment
