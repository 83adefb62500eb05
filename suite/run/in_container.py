# SPDX-License-Identifier: Apache-2.0
"""`bench --master compose`: the same bench inside the `bench` container, its run folder brought out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO

from suite.cluster.compose import (
    DRIVER_LABEL,
    KEPT_OWNER,
    MASTER_URL,
    ClusterSpec,
    check_fits,
    client_environment,
    compose_command,
    container_state,
    explain_failed_start,
    kept_cluster,
    local_disk_wanted,
    remove_orphans,
    temporary_cluster,
    with_image,
    workers_that_fit,
)
from suite.cluster.description import DEFAULT_MEMORY, RUN_FOLDER, ClusterError, wants_encryption
from suite.cluster.docker_engine import (
    CLIENT_SECONDS,
    NAME_LABEL,
    Engine,
    call_client,
    find_engine,
    last_line,
    running_client,
)
from suite.cluster.ownership import new_log_folder, one_shot_name, only_user_of_kept_cluster, this_owner
from suite.errors import UsageError
from suite.machine.environment import revision, suite_command
from suite.machine.pipes import write_all
from suite.machine.processes import open_scope
from suite.machine.signals import BROKEN_PIPE, INTERRUPTED, InterruptError, defer_signals
from suite.run.options import BenchOptions
from suite.run.plan_file import tell_unknown_revision

PREFLIGHT_LOG = f"{RUN_FOLDER}/logs/preflight.log"
COPY_SECONDS = 600.0  # that the engine gets to bring results out
STOP_SECONDS = 90.0  # that a bench gets after Ctrl-C to write down what it has


def run_in_containers(
    options: BenchOptions,
    command_line: str,
    out: Path,
    workers: int = 2,
    cores: int = 1,
    memory: str = DEFAULT_MEMORY,
) -> int:
    """Run `python -m suite bench` inside a cluster of containers, and bring the run folder out.

    Uses the cluster of `cluster up` where there is one, else starts one and removes it afterwards.

    Parameters
    ----------
    options : BenchOptions
        Master and run folder are replaced inside; recipes of the user's own are sent into the container.
    command_line : str
        What the user typed, for the record.
    out : Path
        The run folder. What it holds already goes in first, for `--resume`.
    workers, cores, memory
        Of the cluster, where it is started here. The variable FOLDOUT_ENCRYPT says whether it encrypts.

    Returns
    -------
    int
        The exit code of the bench inside.

    Raises
    ------
    ClusterError
        No cluster, or it was lost.
    """
    plan = ClusterSpec(
        one_shot_name(os.getpid()),
        workers,
        cores,
        memory,
        wants_encryption(),
        image_name=options.image or "",
        data=str(options.data or ""),
        local_disk=local_disk_wanted(),
    )
    engine = find_engine()
    tell_unknown_revision()
    parcel = Parcel(options, command_line, out)
    for name in remove_orphans(engine):
        print(f"removed {name}, which a killed process had left behind")
    kept = kept_cluster(engine)
    if kept:
        _check_kept(kept, plan, options)
    else:
        if options.workers is None:
            plan = replace(plan, workers=workers_that_fit(engine, plan))
        check_fits(engine, plan)
    logs = new_log_folder()
    try:
        # From here on nobody else ends or changes the cluster that is up.
        with only_user_of_kept_cluster() if kept else contextlib.nullcontext():
            if kept and kept_cluster(engine) != kept:
                raise ClusterError("the cluster that was up has changed meanwhile: start again")
            print("building the image (minutes the first time, seconds after)", flush=True)
            plan = with_image(engine, kept or plan, logs / "build.log")
            if kept:
                if kept.image_name and plan.image != kept.image:
                    raise ClusterError(
                        f"the image {kept.image_name} was built again since the cluster came up: begin with "
                        f"{suite_command('cluster up')} --image {kept.image_name}"
                    )
                print(f"using the cluster that is up, with {plan.workers} workers of {plan.memory}", flush=True)
                code = _run_driver(engine, plan, KEPT_OWNER, parcel, logs)
            else:
                print(f"starting a master and {plan.workers} workers", flush=True)
                with temporary_cluster(engine, plan, logs):
                    code = _run_driver(engine, plan, this_owner(), parcel, logs)
    except ClusterError:
        raise  # it names a log, which has to stay
    except BaseException:
        with contextlib.suppress(OSError):  # as of a full disk, which was the reason
            _keep_logs(logs, out)
        raise
    _keep_logs(logs, out)
    if (out / "report.html").exists():
        print(f"brought out of the container: {out / 'report.html'}")
    return code


def _check_kept(kept: ClusterSpec, wanted: ClusterSpec, options: BenchOptions) -> None:
    remedy = f"or end that cluster first: {suite_command('cluster down')}"
    for name, field in (("workers", "workers"), ("memory", "memory"), ("data", "data"), ("image", "image_name")):
        asked, has = getattr(wanted, field), getattr(kept, field)
        if getattr(options, name) and asked != has:
            raise UsageError(
                f"--{name} {asked}: the cluster that is up has {has or 'none'}. Leave the option out, {remedy}"
            )
    if os.environ.get("FOLDOUT_LOCAL_DISK") and wanted.local_disk != kept.local_disk:
        raise UsageError(
            f"FOLDOUT_LOCAL_DISK is {wanted.local_disk}: the workers of the cluster that is up have {kept.local_disk}. "
            f"Leave the variable out, {remedy}"
        )
    if wanted.encrypt and not kept.encrypt:
        raise UsageError(
            f"FOLDOUT_ENCRYPT is set: the cluster that is up does not encrypt. Leave the variable out, {remedy}"
        )


def _keep_logs(logs: Path, out: Path) -> None:
    if (out / "plan.json").exists():
        shutil.copytree(logs, out / "logs" / "cluster", dirs_exist_ok=True)
    shutil.rmtree(logs, ignore_errors=True)


@dataclass(frozen=True)
class Parcel:
    """What goes into a container: what is asked for, as it was typed, and the run folder."""

    options: BenchOptions
    command_line: str
    out: Path

    def variables(self, inside: BenchOptions, plan: ClusterSpec) -> dict[str, str]:
        """What `compose.yaml` asks for of a bench; `inside` are the options as `pack` has made them."""
        # A resume is to have the same cluster, whatever is the default or up by then.
        outside = {**self.options.of_plan(), "workers": plan.workers, "memory": plan.memory}
        return {
            "FOLDOUT_COMMAND": shlex.join(["bench", *inside.arguments()]),
            "FOLDOUT_SENDS": "1",
            "FOLDOUT_COMMAND_LINE": self.command_line,
            "FOLDOUT_RUN_FOLDER": str(self.out),
            "FOLDOUT_OUTSIDE": json.dumps(outside),
            "FOLDOUT_REVISION": json.dumps(revision()),
            "FOLDOUT_DRIVER": this_owner(),
        }


def _run_driver(engine: Engine, plan: ClusterSpec, owner: str, parcel: Parcel, logs: Path) -> int:
    """Run a bench in the cluster, and take its folder out, also after an interrupt."""
    inside, archive = pack(parcel.options, parcel.out)
    variables = plan.variables(engine, owner) | parcel.variables(inside, plan)
    log = logs / "compose.log"
    command = [*compose_command(engine, plan), "up", "--no-start", "--no-deps", "--no-build", "bench"]
    driver = None
    try:
        with running_client(command, log, client_environment(variables)) as client:
            try:
                failed = client.wait(CLIENT_SECONDS)
            except subprocess.TimeoutExpired:
                raise ClusterError(
                    f"the driver's container was not made in {CLIENT_SECONDS:g} seconds: see {log}"
                ) from None
            if failed:
                raise ClusterError(explain_failed_start(log.read_text(errors="replace"), log))
        driver = next(one for one in engine.containers(plan.name) if container_state(one)[0] == "bench")["Id"]
        _attend(engine, driver, archive)
        return exit_code_of(engine, plan.name, driver)
    finally:
        with defer_signals():
            try:
                if driver is not None:
                    _bring_out(engine, driver, parcel.out)
            finally:  # by label: compose may have been about to make it
                label = f"label={DRIVER_LABEL}={variables['FOLDOUT_DRIVER']}"
                if made := engine.ask("ps", "-aq", "--filter", label).split():
                    engine.ask("rm", "-f", "-v", *made)


def _attend(engine: Engine, driver: str, archive: bytes) -> None:
    """Start the driver's container and show its output until it ends; on an interrupt, let it write what it has."""
    with open_scope() as scope:
        client = scope.start(["docker", "start", "-a", "-i", driver], os.environ, stdin=subprocess.PIPE)
        assert client.stdin is not None
        try:
            write_all(client.stdin.fileno(), archive)
            # The pipe stays open: where our end closes, the engine closes the container's output as well.
            client.wait()
        except InterruptError:
            engine.ask("kill", "--signal", "INT", driver, may_fail=True)
            with contextlib.suppress(OSError):  # who reads it may have ended by the same Ctrl-C, as `tee` does
                print("\nthe bench writes down what it has ...", flush=True)
            with contextlib.suppress(ClusterError):  # the container, since our client may have ended too
                call_client(["docker", "wait", driver], STOP_SECONDS)
            raise


def exit_code_of(engine: Engine, name: str, driver: str) -> int:
    """Return the exit code of a bench that has ended, and print which containers did not last."""
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
            if container["State"]["Status"] != "exited":
                raise ClusterError("the connection to the driver's container broke while it ran: go on by --resume")
            code = int(container["State"]["ExitCode"])
            if code > 128 and code not in (INTERRUPTED, BROKEN_PIPE):
                raise ClusterError(
                    f"the driver's container was ended from outside (exit code {code}): go on by --resume"
                )
        elif container["RestartCount"] or what != "healthy":
            again = " and was started again" if container["RestartCount"] else ""
            print(f"{who} {what}{again}: what ran at that time was disturbed")
    if code is None:
        raise ClusterError("the driver's container is gone: someone removed it")
    return code


def _short_of_memory(engine: Engine, name: str, since: str) -> set[str]:
    """Find a cluster's containers in which the kernel killed a process for lack of memory; their ids.

    A container's state tells this of its first process only, and only once that has ended.
    """
    # By the engine's own clock: where that is behind ours, it would wait until then.
    label, until = f"label={NAME_LABEL}={name}", engine.ask("info", "--format", "{{.SystemTime}}").strip()
    filters = ["--filter", label, "--filter", "event=oom", "--format", "{{.Actor.ID}}"]
    return set(engine.ask("events", "--since", since, "--until", until, *filters).split())


def _bring_out(engine: Engine, driver: str, out: Path) -> None:
    """Copy the run folder out, as files of the user that called, with the permissions of that user's umask."""
    begun = not call_client(["docker", "cp", f"{driver}:{RUN_FOLDER}/plan.json", "-"]).returncode
    # Where it did not begin, a log may say why.
    if not begun and call_client(["docker", "cp", f"{driver}:{PREFLIGHT_LOG}", "-"]).returncode:
        return
    words = ["docker", "cp", f"{driver}:{RUN_FOLDER}/.", "-"]
    try:
        _take_output(words, lambda archive: unpack(archive, out), out)
    except OSError as error:
        # The container still has them.
        kept = ""
        try:
            number, kept = tempfile.mkstemp(prefix="foldout-results-", suffix=".tar")
            with os.fdopen(number, "wb") as spool:
                _take_output(words, lambda archive: shutil.copyfileobj(archive, spool), out)
        except OSError as second:
            if kept:
                Path(kept).unlink(missing_ok=True)
            raise ClusterError(
                f"the results cannot be written to {out} ({error.strerror}), nor to {tempfile.gettempdir()} "
                f"({second.strerror}): what is not there yet is lost; no file there is cut short"
            ) from second
        raise ClusterError(
            f"the results cannot be written to {out} ({error.strerror}): they are in {kept}: make room for them, "
            f"then `mkdir -p {shlex.quote(str(out))}; tar -xf {kept} -C {shlex.quote(str(out))}`"
        ) from error


def _take_output(words: Sequence[str], take: Callable[[IO[bytes]], object], out: Path) -> None:
    """Have what a client writes taken as it comes: a spool might have too little room."""
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        broken = None
        hung = threading.Event()

        def give_up() -> None:
            hung.set()
            client.kill()

        # No signal ends this, so an engine that hangs must not keep the user for ever.
        watchdog = threading.Timer(COPY_SECONDS, give_up)
        watchdog.start()
        try:
            take(client.stdout)
            client.stdout.read()  # what stands behind the end of an archive
        except tarfile.TarError as error:  # the client has ended too early, and says why
            broken = error
        except BaseException:
            client.kill()
            raise
        finally:
            watchdog.cancel()
        said = client.stderr.read().decode(errors="replace")
    if hung.is_set():
        raise ClusterError(
            f"the results could not be brought out to {out}: the Docker engine took longer than {COPY_SECONDS:g} "
            "seconds"
        )
    if client.returncode or broken:
        raise ClusterError(f"the results could not be brought out to {out}: {last_line(said or str(broken))}")


def unpack(archive: IO[bytes], out: Path) -> None:
    """Take the regular files and the folders of a tar archive, and nothing else; the umask decides who may read them.

    It comes from a container in which a recipe has run. A link in it could lead what is written later to a place
    outside of the folder.

    Raises
    ------
    ClusterError
        A name leads out of the folder.
    """
    with tarfile.open(fileobj=archive, mode="r|") as members:
        for member in members:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ClusterError(f"the container's run folder has a file {member.name!r}, which leads out of it")
            if member.isdir():
                (out / name).mkdir(parents=True, exist_ok=True)
            elif name == PurePosixPath(".lock"):
                continue  # a new one in its place would let a second bench in
            elif member.isreg() and (content := members.extractfile(member)):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                _write_whole(out / name, content)


def _write_whole(file: Path, content: IO[bytes]) -> None:
    """Write a file, or leave what is there: a full disk must not cost the records of an earlier attempt."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        with content, draft.open("wb") as written:
            shutil.copyfileobj(content, written)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def pack(options: BenchOptions, out: Path) -> tuple[BenchOptions, bytes]:
    """Make options fit for the inside of a container, with an archive of what they name.

    Parameters
    ----------
    options : BenchOptions
    out : Path
        A run folder; what it holds is packed.

    Returns
    -------
    options : BenchOptions
        The master and the run folder are the container's; files and folders are named as they are inside.
    archive : bytes
        A tar archive with the members `run/...` and `own/...`, unpacked into `/results`.
    """
    # What cluster it is the driver learns from the cluster.
    inside = replace(
        options,
        scenario=list(options.scenario),
        master=MASTER_URL,
        out=Path(RUN_FOLDER),
        image=None,
        workers=None,
        memory=None,
    )
    if options.data:
        inside.data = Path("/data")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        if (out / "plan.json").is_file():
            archive.add(out, "run", filter=_plain_member)
        archive.dereference = True  # recipes may be links, and what they import
        if options.scenarios is not None:
            _send(archive, options.scenarios, "own/scenarios")
            inside.scenarios = Path("/results/own/scenarios")
        places: dict[Path, str] = {}
        for number, name in enumerate(options.scenario):
            if name.endswith(".py") and Path(name).is_file():
                # With its neighbours, files and packages: a recipe may import them. Once for all recipes of a folder:
                # one that came twice would be found under its own name in another place.
                folder = Path(name).resolve().parent
                if folder not in places:
                    places[folder] = f"own/{len(places)}"
                    packages = (marker.parent for marker in folder.glob("*/__init__.py"))
                    for path in (*folder.glob("*.py"), *packages):
                        _send(archive, path, f"{places[folder]}/{path.name}")
                inside.scenario[number] = f"/results/{places[folder]}/{Path(name).name}"
    return inside, buffer.getvalue()


def _send(archive: tarfile.TarFile, path: Path, name: str) -> None:
    """Add a file of recipes, or a folder with what it holds, but for what is hidden, such as `.git` and editors' files.

    A link counts as what it leads to. One to a folder that is no package may lead to any amount of data: see `--data`.
    """
    if not path.exists() or (path.is_symlink() and path.is_dir() and not (path / "__init__.py").is_file()):
        return
    archive.add(path, name, recursive=False, filter=_plain_member)
    for inner in sorted(path.iterdir()) if path.is_dir() else ():
        if not inner.name.startswith("."):
            _send(archive, inner, f"{name}/{inner.name}")


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep files and directories only, without owner."""
    if not (member.isfile() or member.isdir()) or "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode |= 0o700 if member.isdir() else 0o600
    return member
