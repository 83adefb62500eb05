# SPDX-License-Identifier: Apache-2.0
"""`bench --master compose`: the same bench inside the `bench` container, its run folder brought out."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from suite.cluster.compose import (
    KEPT,
    MASTER_URL,
    ClusterSpec,
    client_environment,
    compose_command,
    container_state,
    explain_failed_start,
    kept_cluster,
    remove_orphans,
    temporary_cluster,
    this_owner,
)
from suite.cluster.description import ClusterError, wants_encryption
from suite.cluster.docker_engine import (
    CLIENT_SECONDS,
    NAME_LABEL,
    Engine,
    build_image,
    call_client,
    find_engine,
    last_line,
    running_client,
)
from suite.machine.pipes import write_all
from suite.machine.processes import open_scope
from suite.machine.signals import InterruptError, defer_signals

RUN_FOLDER = "/results/run"
STOP_SECONDS = 90.0  # that a bench gets after Ctrl-C to write down what it has


def run_in_containers(
    arguments: Sequence[str],
    out: Path,
    workers: int = 2,
    cores: int = 1,
    memory: str = "1g",
    *,
    encrypt: bool | None = None,
) -> int:
    """Run `python -m suite bench` inside a cluster of containers, and bring the run folder out.

    Uses the cluster of `cluster up` where there is one, else starts one and removes it afterwards.

    Parameters
    ----------
    arguments : sequence of str
        Of `bench`. `--master` and `--out` are replaced; recipes of the user's own are sent into the container.
    out : Path
        The run folder. What it holds already goes in first, for `--resume`.
    workers, cores, memory, encrypt
        Of the cluster, where it is started here. Encryption is by default what the variable FOLDOUT_ENCRYPT says.

    Returns
    -------
    int
        The exit code of the bench inside.

    Raises
    ------
    ClusterError
        No cluster, or it was lost.
    """
    if encrypt is None:
        encrypt = wants_encryption()
    plan = ClusterSpec(f"{KEPT}-{os.getpid()}", workers, cores, memory, encrypt)
    engine = find_engine()
    for name in remove_orphans(engine):
        print(f"removed {name}, which a killed process had left behind")
    logs = Path(tempfile.mkdtemp(prefix="foldout-logs-"))
    try:
        print("building the image (minutes the first time, seconds after)", flush=True)
        build_image(engine, logs / "build.log")
        if kept := kept_cluster(engine):
            print(f"using the cluster that is up, with {kept.workers} workers", flush=True)
            code = _run_driver(engine, kept, "kept", arguments, out, logs)
        else:
            print(f"starting a master and {plan.workers} workers", flush=True)
            with temporary_cluster(engine, plan, logs):
                code = _run_driver(engine, plan, this_owner(), arguments, out, logs)
    except ClusterError:
        raise  # it names a log, which has to stay
    except BaseException:
        _keep_logs(logs, out)
        raise
    _keep_logs(logs, out)
    if (out / "report.html").exists():
        print(f"brought out of the container: {out / 'report.html'}")
    return code


def _keep_logs(logs: Path, out: Path) -> None:
    if (out / "plan.json").exists():
        shutil.copytree(logs, out / "logs" / "cluster", dirs_exist_ok=True)
    shutil.rmtree(logs, ignore_errors=True)


def _run_driver(engine: Engine, plan: ClusterSpec, owner: str, arguments: Sequence[str], out: Path, logs: Path) -> int:
    """Run a bench in the cluster, and take its folder out, also after an interrupt."""
    words, parcel = pack(arguments, out)
    variables = plan.variables(engine, owner)
    variables["FOLDOUT_COMMAND"] = shlex.join(["bench", *words, "--master", MASTER_URL, "--out", RUN_FOLDER])
    variables["FOLDOUT_SENDS"] = "1"
    variables["FOLDOUT_WORDS"] = shlex.join(["python", "-m", "suite", "bench", *arguments])
    log = logs / "compose.log"
    command = [*compose_command(engine, plan), "up", "--no-start", "--no-deps", "--no-build", "bench"]
    driver = None
    try:
        with running_client(command, log, client_environment(variables)) as client:
            if client.wait(CLIENT_SECONDS):
                raise ClusterError(explain_failed_start(log.read_text(errors="replace"), log))
        driver = next(one for one in engine.containers(plan.name) if container_state(one)[0] == "bench")["Id"]
        _attend(engine, driver, parcel)
        return exit_code_of(engine, plan.name, driver)
    finally:
        with defer_signals():
            if driver is not None:
                _bring_out(engine, driver, out)
                engine.ask("rm", "-f", "-v", driver)


def _attend(engine: Engine, driver: str, parcel: bytes) -> None:
    """Start the driver's container, show what it says until it ends; on an interrupt, let it end well."""
    with open_scope() as scope:
        client = scope.start(["docker", "start", "-a", "-i", driver], os.environ, stdin=subprocess.PIPE)
        assert client.stdin is not None
        try:
            write_all(client.stdin.fileno(), parcel)
            # The pipe stays open: where our end closes, the engine closes the container's output as well.
            client.wait()
        except InterruptError:
            print("\nthe bench writes down what it has ...", flush=True)
            engine.ask("kill", "--signal", "INT", driver, may_fail=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(STOP_SECONDS)
            raise


def exit_code_of(engine: Engine, name: str, driver: str) -> int:
    """The exit code of a bench that has ended; says which containers did not last."""
    code = None
    containers = engine.containers(name)
    # Since this bench began: a cluster that is kept may have had its troubles before.
    begun = [container["Created"] for container in containers if container["Id"] == driver]
    short = _short_of_memory(engine, name, begun[0]) if begun else set()
    for container in containers:
        who, what = container_state(container)
        if what == "healthy" and container["Id"] in short:
            what = "ran out of memory"
        if container["Id"] == driver:
            if container["State"]["OOMKilled"]:
                raise ClusterError("the driver ran out of memory: give its container more by FOLDOUT_DRIVER_LIMIT=8g")
            code = int(container["State"]["ExitCode"])
        elif container["RestartCount"] or what != "healthy":
            again = " and was started again" if container["RestartCount"] else ""
            print(f"{who} {what}{again}: what ran at that time was disturbed")
    if code is None:
        raise ClusterError("the driver's container is gone: someone removed it")
    return code


def _short_of_memory(engine: Engine, name: str, since: str) -> set[str]:
    """Ids of a cluster's containers in which the kernel killed a process for lack of memory.

    The state of a container knows this only of its first process, and only once it has ended.
    """
    label, until = f"label={NAME_LABEL}={name}", str(int(time.time()) + 1)
    words = ["--filter", label, "--filter", "event=oom", "--format", "{{.Actor.ID}}"]
    return set(engine.ask("events", "--since", since, "--until", until, *words).split())


def _bring_out(engine: Engine, driver: str, out: Path) -> None:
    """Copy the run folder out; docker's client writes it as the user that called it."""
    if call_client(["docker", "cp", f"{driver}:{RUN_FOLDER}/plan.json", "-"]).returncode:
        return  # there is no run
    out.mkdir(parents=True, exist_ok=True)
    done = call_client(["docker", "cp", f"{driver}:{RUN_FOLDER}/.", str(out)], seconds=600)
    if done.returncode:
        raise ClusterError(f"the results could not be brought out to {out}: {last_line(done.stderr)}")


def pack(arguments: Sequence[str], out: Path) -> tuple[list[str], bytes]:
    """Make the arguments of a bench fit for the inside of a container, with an archive of what they name.

    Parameters
    ----------
    arguments : sequence of str
    out : Path
        A run folder; what it holds is packed.

    Returns
    -------
    arguments : list of str
        Without `--master` and `--out`; files and folders are named as they are inside.
    archive : bytes
        A tar archive with the members `run/...` and `own/...`, unpacked into `/results`.
    """
    known = argparse.ArgumentParser(add_help=False)
    for option in ("--master", "--out", "--scenarios"):
        known.add_argument(option)
    options, words = known.parse_known_args(list(arguments))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if (out / "plan.json").is_file():
            archive.add(out, "run", filter=_plain_member)
        if options.scenarios is not None:
            archive.add(options.scenarios, "own/scenarios", filter=_plain_member)
            words += ["--scenarios", "/results/own/scenarios"]
        for place, word in enumerate(words):
            if word.endswith(".py") and Path(word).is_file():
                # With its neighbours: a recipe may import a sibling.
                for file in Path(word).parent.glob("*.py"):
                    archive.add(file, f"own/{place}/{file.name}", filter=_plain_member)
                words[place] = f"/results/own/{place}/{Path(word).name}"
    return words, buffer.getvalue()


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Files and folders only, of nobody in particular."""
    if not (member.isfile() or member.isdir()) or "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o700 if member.isdir() else 0o600
    return member
