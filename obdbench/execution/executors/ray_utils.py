"""Where Ray runs a job: what the driver and the workers settle without Ray itself."""

from __future__ import annotations

import contextlib
import os
import socket

from obdbench.errors import InvalidSettingError

KNOCK_SECONDS = 20.0


def settle(home: str) -> None:
    """Read relative paths as the driver does, where this node has the driver's folder."""
    with contextlib.suppress(OSError):
        os.chdir(home)


def refuse_index(device: str) -> None:
    """Refuse a GPU by its index: to each worker Ray shows its own share only, counted from 0."""
    if ":" in device:
        raise InvalidSettingError(
            f"With Ray, {device} names no GPU: Ray itself deals them out.",
            "Use --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES.",
        )


def knock(address: str | None) -> None:
    """Fail at once where nobody listens; Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()
