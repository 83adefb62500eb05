# SPDX-License-Identifier: Apache-2.0
"""The limit on what Spark writes to its local folders in a container."""

import os
import subprocess
import sys

import pytest

from suite.cluster import compose, local_disk
from suite.cluster.description import ClusterError
from suite.spark.failures import meaning

# Appends 64 KiB to a file for each line that it reads, and says how it went.
WRITER = """
import os, sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "ab") as file:
            file.write(os.urandom(1 << 16))
    except OSError as error:
        print(os.strerror(error.errno), flush=True)
    else:
        print("written", flush=True)
"""


def ask(writer):
    writer.stdin.write("write\n")
    return writer.stdout.readline().strip()


def test_all_files_of_a_folder_count_by_what_they_take_on_disk(tmp_path):
    (tmp_path / "blockmgr" / "0c").mkdir(parents=True)
    (tmp_path / "blockmgr" / "0c" / "shuffle").write_bytes(os.urandom(1 << 20))
    (tmp_path / "log").write_bytes(os.urandom(1 << 18))
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(1 << 30)
    assert (1 << 20) + (1 << 18) <= local_disk.used_bytes(tmp_path) < 2 << 20


def test_a_full_folder_takes_nothing_until_it_has_room_again(tmp_path, monkeypatch, capsys):
    words = [sys.executable, "-c", WRITER]
    with subprocess.Popen(
        [*words, tmp_path / "spill"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as writer:
        said = []

        def write(_seconds):
            if len(said) == 4:
                (tmp_path / "spill").unlink()
            if len(said) == 6:
                raise TimeoutError
            said.append(ask(writer))

        monkeypatch.setattr(local_disk.time, "sleep", write)
        # This machine's other processes keep their limits.
        monkeypatch.setattr(local_disk, "other_processes", lambda: [writer.pid])
        with pytest.raises(TimeoutError):
            local_disk.keep_within(tmp_path, 100_000)
        writer.stdin.close()
    assert said == ["written", "written", "File too large", "File too large", "File too large", "written"]
    assert capsys.readouterr().err.splitlines() == [
        "Spark's local folders hold more than 9.31e-05 GiB: nothing is written",
        "Spark's local folders have room again",
    ]
    assert "FOLDOUT_LOCAL_DISK" in meaning("java.io.IOException: File too large")
    assert "FOLDOUT_LOCAL_DISK" in meaning("OSError: [Errno 27] File too large")


def test_a_process_that_is_spared_goes_on_writing(tmp_path, monkeypatch):
    """The suite in the driver's container, which has to write down what failed."""
    limited = []
    monkeypatch.setattr(local_disk, "other_processes", lambda: [1, 2, 3])
    monkeypatch.setattr(local_disk, "allow_writes", lambda pids, allowed: limited.append((list(pids), allowed)))

    def once(_seconds):
        raise TimeoutError

    monkeypatch.setattr(local_disk.time, "sleep", once)
    (tmp_path / "spill").write_bytes(bytes(10_000))
    with pytest.raises(TimeoutError):
        local_disk.keep_within(tmp_path, 100, {2})
    assert limited == [([1, 3], False)]


def test_processes_that_are_gone_or_of_others_are_left_alone():
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    local_disk.allow_writes([gone.pid], allowed=False)


def test_an_amount_that_is_none_is_refused_before_containers_start(monkeypatch):
    monkeypatch.setenv("FOLDOUT_LOCAL_DISK", "much")
    monkeypatch.setattr(compose, "find_engine", lambda: pytest.fail("an engine is asked"))
    with pytest.raises(ClusterError, match="FOLDOUT_LOCAL_DISK 'much' is not an amount such as 512m or 2g"):
        compose.cluster_up()


@pytest.mark.docker
def test_the_limit_holds_in_a_confined_container(engine, image):
    """An ordinary user without capabilities may set it, for its own processes."""
    program = (
        "import os, time; from pathlib import Path; from suite.cluster.local_disk import watch; "
        "folder = Path('/var/spark'); watch(folder, 1 << 20)\n"
        "def write():\n"
        "    for _ in range(200):\n"
        "        try:\n"
        "            with open(folder / 'spill', 'ab') as file: file.write(os.urandom(1 << 16))\n"
        "        except OSError as error: return os.strerror(error.errno)\n"
        "        time.sleep(0.05)\n"
        "print(write(), 'after', (folder / 'spill').stat().st_size > 1 << 20)\n"
        "(folder / 'spill').unlink()\n"
        "for _ in range(100):\n"
        "    time.sleep(0.1)\n"
        "    try: (folder / 'spill').write_bytes(b'room')\n"
        "    except OSError: continue\n"
        "    print('written again'); break\n"
    )
    confined = [
        "--init",
        "--read-only",
        "--cap-drop",
        "ALL",
        "--security-opt",
        "no-new-privileges",
        "--network",
        "none",
    ]
    said = engine.ask(
        "run", "--rm", *confined, "--volume", "/var/spark", "--entrypoint", "python", image, "-c", program
    )
    assert said.splitlines() == ["File too large after True", "written again"]
