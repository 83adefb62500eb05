# SPDX-License-Identifier: Apache-2.0
"""What the image's build is given and what it says when it fails, without a Docker engine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from suite.cluster import authorities, image_build
from suite.cluster.authorities import machine_authorities
from suite.cluster.description import ClusterError
from suite.cluster.docker_engine import IMAGE_LABEL, Engine, build_image, remove_old_images
from suite.cluster.image_build import ImageUnavailableError

ROOT = Path(__file__).resolve().parents[2]


def pem(content: str, kind: str = "CERTIFICATE") -> str:
    return f"-----BEGIN {kind}-----\n{content}\n-----END {kind}-----"


ONE, TWO, THREE = pem("T25l"), pem("VHdv"), pem("VGhyZWU=")
KEY, ENCRYPTED = pem("S2V5", "PRIVATE KEY"), pem("S2V5", "ENCRYPTED PRIVATE KEY")


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch):
    """No authorities but those of a test, no variables of the build's."""
    monkeypatch.setattr(authorities, "FOLDERS", ())
    for name in authorities.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE"])
def test_authorities_come_from_the_file_or_folder_that_a_variable_names(name, tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.pem").write_text(f"# the proxy's\n{TWO}\n")
    (tmp_path / "a.crt").write_text(ONE)
    monkeypatch.setenv(name, str(tmp_path))
    assert machine_authorities() == [ONE, TWO]
    monkeypatch.setenv(name, str(tmp_path / "a.crt"))
    assert machine_authorities() == [ONE]


def test_authorities_come_from_the_systems_folders_each_once(tmp_path, monkeypatch):
    for place, text in (("debian", f"{TWO}\n{ONE}"), ("fedora", f"{ONE}\n{THREE}".replace("\n", "\r\n"))):
        (tmp_path / place).mkdir()
        (tmp_path / place / "extra.crt").write_bytes(text.encode())
    monkeypatch.setattr(authorities, "FOLDERS", (str(tmp_path / "debian"), str(tmp_path / "fedora"), "/nowhere"))
    assert machine_authorities() == sorted([ONE, TWO, THREE])


def test_nothing_but_certificates_is_taken(tmp_path, monkeypatch):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(
        b"\xff\xfe password\n" + "\n".join([KEY, ONE, ENCRYPTED, pem("T25l", "TRUSTED CERTIFICATE")]).encode()
    )
    monkeypatch.setenv("PIP_CERT", str(bundle))
    assert machine_authorities() == [ONE]


def test_a_variable_that_names_nothing_does_no_harm(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("PIP_CERT", "")
    assert machine_authorities() == []


# --- the build, by a docker of our own


INFO = 'case "$1" in info) echo 4 8000000000; exit;; build) ;; *) exit 0;; esac\n'


# What a build writes where it is asked for the image's id.
TELL_ID = """
before=; for word in "$@"; do [ "$before" != --iidfile ] || echo sha256:17 > "$word"; before=$word; done
"""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Makes a docker whose builds do what a script says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(script: str) -> None:
        (folder / "docker").write_text(f"#!/bin/sh\n{INFO}{TELL_ID}{script}\n")
        (folder / "docker").chmod(0o755)

    return make


def test_the_build_is_given_the_authorities_and_the_clone_stays_as_it_was(docker, tmp_path, monkeypatch):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"{KEY}\n{ONE}\n{TWO}\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(ROOT.joinpath("docker").rglob("*"))
    # The context is the last word of the command.
    docker(f'for last; do :; done; cp -R "$last" {tmp_path}/context; echo "$@"')
    assert build_image(tmp_path / "log") == "sha256:17"
    context = tmp_path / "context"
    assert (context / "docker" / "certs" / "machine.crt").read_text() == f"{ONE}\n{TWO}\n"
    assert {path.name for path in context.iterdir()} == {
        *(".dockerignore", "docker", "pyproject.toml", "requirements", "scenarios", "suite")
    }
    assert [path.name for path in (context / "requirements").iterdir()] == ["run.txt"]
    assert not list(context.rglob("__pycache__"))
    assert os.access(context / "docker" / "entrypoint", os.X_OK)
    said = (tmp_path / "log").read_text()
    assert f"-f {tmp_path}/foldout-build-" in said
    assert sorted(ROOT.joinpath("docker").rglob("*")) == before
    assert not list(tmp_path.glob("foldout-build-*"))


def test_what_editors_leave_beside_recipes_is_not_sent(tmp_path, monkeypatch):
    """Emacs has a link that leads nowhere for each file that is not saved."""
    monkeypatch.setattr(image_build, "ROOT", tmp_path)
    (tmp_path / ".dockerignore").write_text("*\n!scenarios\n")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "mine.py").touch()
    for name in (".#mine.py", "gone.py"):
        (tmp_path / "scenarios" / name).symlink_to("me@host.1:2")
    with image_build.build_context() as context:
        assert [path.name for path in (context / "scenarios").iterdir()] == ["mine.py"]


def test_images_that_have_lost_their_name_are_removed_a_day_later(docker, tmp_path, monkeypatch):
    docker("")
    (tmp_path / "bin" / "docker").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    remove_old_images(Engine(("docker-compose",), 2, 8.0))
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked == "image prune -f --filter label=foldout.image --filter until=24h"
    assert f"LABEL {IMAGE_LABEL}=" in (ROOT / "docker" / "Dockerfile").read_text().rpartition("FROM ")[2]


def test_what_was_put_into_the_folder_by_hand_goes_along(docker, tmp_path):
    docker(f'for last; do :; done; ls "$last"/docker/certs > {tmp_path}/seen')
    build_image(tmp_path / "log")
    assert (tmp_path / "seen").read_text().split() == sorted(
        path.name for path in (ROOT / "docker" / "certs").iterdir()
    )


NO_REGISTRY = [
    # The classic builder, without a network, without the image and behind a proxy; BuildKit; BuildKit of 20.10.
    'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host',
    "pull access denied for debian, repository does not exist or may require docker login",
    'Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for connection',
    "ERROR: failed to solve: debian:bookworm-slim: failed to resolve source metadata for "
    'docker.io/library/debian:bookworm-slim: failed to do request: Head "https://registry-1.docker.io/v2/": EOF',
    "failed to solve with frontend dockerfile.v0: failed to create LLB definition: failed to do request",
]
NO_TRUST_OF_ENGINE = 'Get "https://registry-1.docker.io/v2/": x509: certificate signed by unknown authority'
NO_TRUST = (
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
    "certificate in certificate chain (_ssl.c:992)'))\nERROR: No matching distribution found for cloudpickle==3.1.2"
)
NO_NETWORK = (
    "Err:1 http://deb.debian.org/debian bookworm InRelease\n  Temporary failure resolving 'deb.debian.org'\n"
    "E: Unable to locate package ca-certificates"
)
NO_CONTEXT = 'unable to prepare context: path "/tmp/foldout-build-x1" not found'


def failing(log: str) -> str:
    return f"cat <<'END'\n{log}\nThe command '/bin/sh -c x' returned a non-zero code: 1\nEND\nexit 1"


@pytest.mark.parametrize(
    ("log", "cause", "remedy"),
    [
        *((log, "the base image is not here", ".ci/base-image") for log in NO_REGISTRY),
        (NO_CONTEXT, "the Docker client does not see the folder", "install Docker"),
        (NO_TRUST_OF_ENGINE, "the Docker engine does not trust", "restart the engine"),
        (NO_TRUST, "pip in the build does not trust", "SSL_CERT_FILE"),
        (NO_NETWORK, "the build reaches no network", "HTTPS_PROXY"),
    ],
)
def test_what_the_machine_lacks_is_named_with_the_remedy_and_the_log(log, cause, remedy, docker, tmp_path):
    docker(failing(log))
    with pytest.raises(ImageUnavailableError) as error:
        build_image(tmp_path / "build.log")
    text = str(error.value)
    assert text.startswith(f"the image could not be built: {cause}")
    assert remedy in text
    assert text.endswith(f"see {tmp_path / 'build.log'}")
    assert "\n" not in text
    assert log in (tmp_path / "build.log").read_text()


def test_any_other_failure_is_told_by_the_builds_last_line(docker, tmp_path):
    docker(failing("COPY failed: no such file"))
    with pytest.raises(ClusterError, match=r"could not be built: The command .* code: 1: see .*log$") as error:
        build_image(tmp_path / "log")
    assert not isinstance(error.value, ImageUnavailableError)


def test_an_image_that_the_engine_did_not_get_is_an_error(docker, tmp_path):
    """A builder in a container ends well and writes no id. The tag is then that of an image which was built before."""
    docker(TELL_ID.replace("echo sha256:17", ":"))
    with pytest.raises(ClusterError, match=r"did not hand it to the Docker engine: `docker buildx use default`"):
        build_image(tmp_path / "log")


# --- tests on containers where there are none


NO_ENGINE = "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1"
UNAVAILABLE = {
    "no engine": (NO_ENGINE, "no Docker engine answers at", "start it"),
    "no base image": (INFO + failing(NO_REGISTRY[0]), "the base image is not here", ".ci/base-image"),
    "no trust": (INFO + failing(NO_TRUST), "pip in the build does not trust", "SSL_CERT_FILE"),
    "no network": (INFO + failing(NO_NETWORK), "the build reaches no network", "HTTPS_PROXY"),
}


def run_container_tests(folder: Path, script: str, ci: str) -> subprocess.CompletedProcess:
    """Two tests on containers, in a pytest of their own."""
    (folder / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "docker").chmod(0o755)
    words = [
        "tests/cluster/test_faults_push.py",
        "tests/cluster/test_containers.py",
        "-k",
        "worker_killed_in_the_middle or nothing_of_the_build",
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *words],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_tests_on_containers_are_skipped_with_one_line_that_says_why(case, tmp_path):
    script, why, remedy = UNAVAILABLE[case]
    done = run_container_tests(tmp_path, script, ci="")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert why in line
    assert remedy in line
    assert "2 skipped" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("ci", ["true", "1"])
@pytest.mark.parametrize("case", UNAVAILABLE)
def test_in_ci_they_fail(case, ci, tmp_path):
    script, why, remedy = UNAVAILABLE[case]
    done = run_container_tests(tmp_path, script, ci)
    assert f"CI has to run the tests on containers: {why}" in done.stdout or f"built: {why}" in done.stdout
    assert remedy in done.stdout
    assert "2 errors" in done.stdout
    assert "SKIPPED" not in done.stdout
    assert done.returncode == 1


def test_a_build_that_fails_by_its_own_fault_is_not_skipped_anywhere(tmp_path):
    done = run_container_tests(tmp_path, INFO + failing("COPY failed: no such file"), ci="")
    assert "2 errors" in done.stdout
    assert done.returncode == 1
