# SPDX-License-Identifier: Apache-2.0
"""Where Spark encrypts, the Spark backend does too, and nobody between the two sides is taken for one of them."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import grid_search_spark_backend as scenario
import joblib
import numpy as np
import pytest
from pyspark import SparkConf
from pyspark.sql import SparkSession

from tests.scenarios.spark_backend_state import on_spark, pools  # noqa: F401

pytestmark = [pytest.mark.spark, pytest.mark.usefixtures("pools")]
MARK = b"read by nobody else " * 100


class Between:
    """Sits between the workers and the driver, passes on what they say, and keeps a copy."""

    def __init__(self, driver: tuple[str, int], dress: Callable[[socket.socket, bool], socket.socket]) -> None:
        self.listener, self.driver, self.dress = socket.create_server(("127.0.0.1", 0)), driver, dress
        self.heard, self.open = b"", ExitStack()
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                sides = self.listener.accept()[0], socket.create_connection(self.driver)
                for side in sides:
                    self.open.callback(side.close)
                with suppress(OSError):
                    worker, driver = (self.dress(side, side is sides[0]) for side in sides)
                    for source, sink in ((worker, driver), (driver, worker)):
                        self.threads.append(threading.Thread(target=self.pass_on, args=(source, sink)))
                        self.threads[-1].start()

    def pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.heard += data
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        scenario.stop_spark_pool()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.open.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def sit_between(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    betweens = []

    def sit(*, encrypt: bool, dress: Callable = lambda side, _: side) -> list[Between]:
        listen = scenario.listen

        def divert(context: object) -> tuple:
            listener, address = listen(context)
            betweens.append(Between(address, dress))
            return listener, betweens[-1].listener.getsockname()

        monkeypatch.setattr(scenario, "listen", divert)
        monkeypatch.setattr(scenario, "encrypts", lambda context: encrypt)
        return betweens

    yield sit
    for between in betweens:
        between.end()


@pytest.mark.parametrize("encrypt", [False, True])
def test_what_travels_can_be_read_unless_it_is_encrypted(sit_between: Callable, encrypt: bool) -> None:
    betweens = sit_between(encrypt=encrypt)
    X = np.frombuffer(MARK * 5000, dtype=np.uint8)  # 10 MB, in several messages
    with on_spark():
        found = joblib.Parallel()(joblib.delayed(lambda X, i: (bytes(X[:2000]), i))(X, i) for i in range(6))
    assert found == [(MARK, i) for i in range(6)]
    (between,) = betweens
    assert len(between.heard) > X.nbytes
    assert (MARK in between.heard) is not encrypt


def test_who_makes_an_exchange_with_each_side_is_no_worker(sit_between: Callable) -> None:
    def exchange(side: socket.socket, is_worker: bool) -> ssl.SSLSocket:
        return scenario.tls_context(server_side=is_worker).wrap_socket(side, server_side=is_worker)

    sit_between(encrypt=True, dress=exchange)
    with on_spark(), pytest.raises(RuntimeError, match=r"cannot reach the driver .*: digest sent was rejected"):
        joblib.Parallel()(joblib.delayed(abs)(i) for i in range(4))


@pytest.mark.parametrize("true", ["true", "True", " TRUE"])
@pytest.mark.parametrize("name", ["spark.network.crypto.enabled", "spark.ssl.rpc.enabled"])
def test_spark_says_whether_to_encrypt(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, name: str, true: str
) -> None:
    context = spark.sparkContext
    assert not scenario.encrypts(context)
    monkeypatch.setattr(context, "_conf", SparkConf(loadDefaults=False).set(name, true))
    assert scenario.encrypts(context)

    def refuse(server_side: bool) -> None:
        raise ssl.SSLError("No cipher can be selected.")

    monkeypatch.setattr(scenario, "tls_context", refuse)
    with pytest.raises(RuntimeError, match=r"refuses to do so without certificates\. Use joblib-spark's backend"):
        scenario.encrypts(context)


def test_it_is_said_that_files_are_not_encrypted(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"spark.io.encryption.enabled": "true", "spark.driver.host": "127.0.0.1"}
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    monkeypatch.setattr(spark.sparkContext, "_conf", conf)
    with on_spark(), pytest.warns(UserWarning, match="spark.local.dir as it is"):
        joblib.Parallel()(joblib.delayed(abs)(-i) for i in range(3))
