"""A certificate for 127.0.0.1 that nobody trusts."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest


def certificate_in(folder: Path) -> Path:
    """A file with certificate and key; skips the test where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, found, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(found)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(found.read_text() + key.read_text())
    return both


def server_context(certificate: Path, *protocols: str) -> ssl.SSLContext:
    """Of a server with `certificate` that agrees to `protocols` by ALPN; none: it knows no ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
