"""Lies in the bundle's Python, which imports it at its start: whose certificates are trusted.

Those of the system, as every program there does; that Python was built with the paths of another computer.
"""

import os

_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)


def _certificates() -> str:
    for path in _PLACES:
        if os.path.exists(path):  # noqa: PTH110 - pathlib takes longer to import than all the rest
            return path
    from certifi import where

    return where()


os.environ.setdefault("SSL_CERT_FILE", _certificates())
