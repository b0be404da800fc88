"""Ports of the loopback interface, asked for before anything is started that would need them."""

from __future__ import annotations

import socket

from empath.local.errors import LocalStackError
from empath.local.options import HOST


def require_free(port: int, what: str, variable: str) -> None:
    """Raises LocalStackError when `port`, meant for `what` and named by `variable`, cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise LocalStackError(
                f"port {port} of {HOST}, meant for {what}, cannot be used ({error.strerror})",
                f"stop what listens there, or set {variable} to another port",
            ) from None
