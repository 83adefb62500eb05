# SPDX-License-Identifier: Apache-2.0
"""The Docker engine and its clients: found, asked, and told to build the image."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.cluster.description import ClusterError
from suite.cluster.image_build import ImageUnavailableError, build_context, missing_for_build
from suite.machine.processes import open_scope

IMAGE = "foldout:local"
IMAGE_LABEL = "foldout.image"
NAME_LABEL = "foldout.cluster"

INSTALL = "https://docs.docker.com/engine/install"

CLIENT_SECONDS = 60.0  # for a question to the engine
BUILD_SECONDS = 3600.0
CLIENT_GRACE_SECONDS = 10.0  # that a client gets to stop what it does

# Variables that the image's build may need behind a company's proxy: handed on by name where they are set, so that
# their values, often with a password in them, are on no command line.
BUILD_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT"),
)


@dataclass(frozen=True)
class Engine:
    """A Docker engine that answers.

    Attributes
    ----------
    compose : tuple of str
        How its compose client is called.
    cores : int
    memory_gib : float
        What the engine has, which on macOS is less than the machine's.
    """

    compose: tuple[str, ...]
    cores: int
    memory_gib: float

    def ask(self, *arguments: str, may_fail: bool = False) -> str:
        """The output of a docker command.

        Raises
        ------
        ClusterError
            It failed, or took longer than `CLIENT_SECONDS`.
        """
        done = call_client(["docker", *arguments])
        if done.returncode and not may_fail:
            raise ClusterError(f"docker {arguments[0]} failed: {last_line(done.stderr)}")
        return done.stdout

    def containers(self, name: str) -> list[dict[str, Any]]:
        """What the engine says of the containers of a cluster."""
        ids = self.ask("ps", "-aq", "--filter", f"label={NAME_LABEL}={name}").split()
        # One may be gone by now; the others are described all the same.
        return json.loads(self.ask("inspect", *ids, may_fail=True) or "[]") if ids else []


def find_engine() -> Engine:
    """The Docker engine and its clients.

    Raises
    ------
    ClusterError
        No client or Podman in its place, no engine behind it, no permission, or no compose: each with its remedy.
    """
    instead = "or leave Docker out: --master standalone, or local[N]"
    if shutil.which("docker") is None:
        raise ClusterError(f"no `docker` on the PATH: install Docker ({INSTALL}), {instead}")
    done = call_client(["docker", "info", "--format", "{{.NCPU}} {{.MemTotal}}"])
    said = done.stderr.strip()
    found = re.match(r"(\d+) (\d+)", done.stdout)
    if not found or found[1] == "0":
        where = os.environ.get("DOCKER_HOST") or "its usual socket"
        if "permission denied" in said.lower():
            raise ClusterError(
                f"this user may not use the Docker engine at {where}: `sudo usermod -aG docker $USER` and log in "
                f"again, {instead}"
            )
        # Its `info` is another one, so this looks like an engine that does not answer.
        if "podman" in call_client(["docker", "--version"]).stdout.lower():
            raise ClusterError(f"the `docker` on the PATH is Podman: install Docker ({INSTALL}), {instead}")
        raise ClusterError(
            f"no Docker engine answers at {where}: start it (`sudo systemctl start docker`, or Docker Desktop), "
            f"check DOCKER_HOST, {instead} (docker says: {last_line(said)})"
        )
    for compose in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(compose[0]) and call_client([*compose, "version"]).returncode == 0:
            return Engine(compose, int(found[1]), int(found[2]) / 2**30)
    raise ClusterError(
        "Docker is here, but neither `docker compose` nor `docker-compose`: install the package "
        f"docker-compose-plugin (or docker-compose), {instead}"
    )


def call_client(command: Sequence[str], seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a client to its end and return what it said.

    Raises
    ------
    ClusterError
        It took longer than `seconds` (default: `CLIENT_SECONDS`).
    """
    seconds = seconds or CLIENT_SECONDS
    # In a session of its own: a terminal's Ctrl-C is for us to handle, and must not end what cleans up.
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        shown = " ".join(command[:2])
        raise ClusterError(
            f"`{shown}` got no answer from the Docker engine in {seconds:g} seconds: restart it"
        ) from None


def last_line(text: str) -> str:
    """The last line that is not blank, where an error is usually named."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"


def build_image(log: Path, image: str = IMAGE) -> str:
    """Build the image; some seconds where only code has changed. Return its id.

    The tag is for people. Another checkout that is built meanwhile takes it over, so a run goes by the id.

    Raises
    ------
    ImageUnavailableError
        This machine lacks what the build needs: the base image, trust in a proxy, a network.
    ClusterError
        It failed for any other reason, or the engine did not get it. Both name the log.
    """
    handed = [word for name in BUILD_VARIABLES if os.environ.get(name) for word in ("--build-arg", name)]
    with build_context() as context:
        # Without --force-rm, an interrupted build leaves its last container behind (BuildKit has none).
        told = log.with_suffix(".id")
        command = ["docker", "build", "--force-rm", "-t", image, "--iidfile", str(told), *handed]
        command += ["-f", str(context / "docker" / "Dockerfile"), str(context)]
        with running_client(command, log) as client:
            try:
                code = client.wait(BUILD_SECONDS)
            except subprocess.TimeoutExpired:
                raise ClusterError(f"the image was not built in {BUILD_SECONDS:g} seconds: see {log}") from None
        if code == 0:
            image_id = told.read_text().strip()
            # A builder in a container keeps what it builds, and the tag is that of an older image.
            if not image_id:
                raise ClusterError(
                    "the image was built, but its builder did not hand it to the Docker engine: `docker buildx use "
                    f"default`, and leave BUILDX_BUILDER unset: see {log}"
                )
            return image_id
    said = log.read_text(errors="replace")
    cause = missing_for_build(said)
    kind = ImageUnavailableError if cause else ClusterError
    raise kind(f"the image could not be built: {cause or last_line(said)}: see {log}")


def remove_old_images(engine: Engine) -> None:
    """Remove images of ours without a name, which later builds have taken.

    Not those of the last day, since another checkout may have built one and not used it yet; nor, as the engine sees
    to, those that a container has.
    """
    filters = [f"label={IMAGE_LABEL}", "until=24h"]
    engine.ask("image", "prune", "-f", *(word for text in filters for word in ("--filter", text)), may_fail=True)


def image_on_top(engine: Engine, name: str, ours: str) -> str:
    """Find an image of the user's own that is built on ours; its id.

    Parameters
    ----------
    engine : Engine
    name : str
    ours : str
        The id of our image.

    Raises
    ------
    ClusterError
        There is none of that name, or it holds other code than ours.
    """
    ask = ("image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}")
    found, _, layers = engine.ask(*ask, name, may_fail=True).strip().partition(" ")
    if not layers:
        raise ClusterError(f"there is no image {name}: make it by `docker build -t {name} DIR`, FROM {IMAGE}")
    below = json.loads(engine.ask(*ask, ours).partition(" ")[2])
    if json.loads(layers)[: len(below)] != below:
        raise ClusterError(
            f"the image {name} is not built on {IMAGE} as it is now, so it would run other code: build it again"
        )
    return found


@contextlib.contextmanager
def running_client(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A client that writes to a log, and does not outlive the block."""
    with open_scope(grace=CLIENT_GRACE_SECONDS) as scope, log.open("ab") as out:
        yield scope.start(
            command, os.environ if environment is None else environment, stdout=out, stderr=subprocess.STDOUT
        )
