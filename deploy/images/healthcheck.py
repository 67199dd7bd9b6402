"""Owns the health check of a container: `healthcheck.py PORT [CERT]` asks /healthz on the port that PORT holds.

PORT and CERT are names of variables. Where CERT is set the process serves TLS; its certificate is not checked, as
nothing but this container is asked.

Standard library alone, so that it starts in milliseconds and works in images without splitmesh.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys

_TIMEOUT_S = 3.0


def connect(port: int, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=trusting)


def main() -> int:
    connection = connect(int(os.environ[sys.argv[1]]), tls=any(os.environ.get(name) for name in sys.argv[2:]))
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != 200)
    except (OSError, http.client.HTTPException) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    raise SystemExit(main())
