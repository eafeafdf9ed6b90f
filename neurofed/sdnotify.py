"""Telling systemd how a process is: ready, alive, ending. Without systemd, nothing happens.

The protocol is a datagram of `KEY=VALUE` lines to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket


def notify(**facts: str) -> bool:
    """Send facts, such as `READY="1"`, `STATUS="..."`, `WATCHDOG="1"`, `STOPPING="1"`.

    Returns:
        True if systemd was told; False where nobody asked to be, or the socket is gone.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    message = "".join(f"{key}={value}\n" for key, value in facts.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(path.replace("@", "\0", 1) if path[0] == "@" else path)
            connection.send(message.encode())
    except OSError:  # telling is a courtesy: a process does not end for want of it
        return False
    return True
