# SPDX-License-Identifier: Apache-2.0
"""What the build of the image is given, and what it says where the machine lacks something for it."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from suite.cluster.authorities import machine_authorities
from suite.cluster.description import ClusterError
from suite.machine.environment import ROOT

# What is in the log of a build that failed, as a pattern, and what that means, with the remedy. Both builders of
# Docker are covered; where several patterns fit, the first one is the cause.
CAUSES = (
    (
        r"unable to prepare context: path",
        "the Docker client does not see the folder for temporary files, as one of snap does not see /tmp: install "
        "Docker from https://docs.docker.com/engine/install",
    ),
    (
        r"x509: certificate",
        "the Docker engine does not trust the server that answers for the image registry: add the authority to the "
        "system's certificates and restart the engine, or make the base image here by `sudo .ci/base-image` (Debian)",
    ),
    (
        r"failed to resolve source metadata|failed to create LLB definition|pull access denied|manifest unknown|"
        r"Get \"?https://\S+/v2/",
        "the base image is not here and no registry gives it: `docker pull debian:bookworm-slim` where one can be "
        "reached, or make it here by `sudo .ci/base-image` (Debian)",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
        "pip in the build does not trust the server that answers for the package index: name its authority's PEM file "
        "in SSL_CERT_FILE, or put that file into docker/certs/ with a name that ends in .crt",
    ),
    (
        r"Temporary failure resolving|Could not resolve|Unable to connect to|Could not connect to|"
        r"NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError",
        "the build reaches no network, or not the one it needs: behind a proxy set HTTP_PROXY and HTTPS_PROXY, for a "
        "package index of your own PIP_INDEX_URL",
    ),
)


class ImageUnavailableError(ClusterError):
    """The image cannot be built, since this machine lacks something for it: a base image, trust, a network."""


def missing_for_build(log: str) -> str | None:
    """What a machine lacks, by the log of the build that failed for it, and the remedy; None for any other failure."""
    return next((cause for pattern, cause in CAUSES if re.search(pattern, log)), None)


@contextlib.contextmanager
def build_context() -> Iterator[Path]:
    """A copy of what the image is made of, with this machine's authorities added; it is gone after the block.

    A copy, since nothing is written into the clone. The build stage takes authorities from `docker/certs`.
    """
    with tempfile.TemporaryDirectory(prefix="foldout-build-") as folder:
        context = Path(folder)
        # The lines of .dockerignore that begin with `!` name what is sent.
        for name in (".dockerignore", *re.findall(r"(?m)^!(.+)$", (ROOT / ".dockerignore").read_text())):
            _copy(ROOT / name, context / name)
        if authorities := machine_authorities():
            (context / "docker" / "certs" / "machine.crt").write_text("\n".join(authorities) + "\n")
        yield context


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        # An editor's file of a buffer that is not saved may be a link that leads nowhere.
        left_out = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(source, target, ignore=left_out, ignore_dangling_symlinks=True)
    else:
        shutil.copy(source, target)
