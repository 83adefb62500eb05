# SPDX-License-Identifier: Apache-2.0
"""The certificate authorities that this machine was told to trust: what a proxy that signs anew makes necessary."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

# Where administrators add authorities: Debian and Alpine, Fedora, SUSE, Arch.
FOLDERS = (
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/trust/anchors",
    "/etc/ca-certificates/trust-source/anchors",
)
# What OpenSSL, requests, pip and curl read: each names a file or a folder.
VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")

# Nothing else of a file is taken: some bundles hold private keys too.
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def machine_authorities() -> list[str]:
    """Certificates in PEM, each once and sorted, so that the same ones make the same layer of an image."""
    places = [*FOLDERS, *filter(None, map(os.environ.get, VARIABLES))]
    texts = (text for place in places for text in _texts(Path(place)))
    return sorted({"\n".join(found.split("\r\n")) for text in texts for found in CERTIFICATE.findall(text)})


def _texts(place: Path) -> Iterator[str]:
    """What is written in a file, or in the files of a folder, as far as this user may read it."""
    for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
        with contextlib.suppress(OSError):
            yield path.read_text(encoding="ascii", errors="replace")
