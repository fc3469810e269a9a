"""Waiting that another thread can end."""

from __future__ import annotations

import contextlib
import selectors
import socket


class Waker:
    """Wakes a thread, also one that waits for a socket."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def wake(self) -> None:
        """Let whoever waits go on; with nobody waiting, the next wait ends at once."""
        with contextlib.suppress(OSError):  # full, so it is going to wake as it is; or closed
            self._theirs.send(b"!")

    def wait(self, seconds: float, socket_too: int | None = None) -> None:
        """Wait until woken, until a socket (by its file number) has something to read, or until the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ours, selectors.EVENT_READ)
            if socket_too is not None:
                selector.register(socket_too, selectors.EVENT_READ)
            selector.select(max(seconds, 0))
        with contextlib.suppress(BlockingIOError):
            self._ours.recv(4096)

    def close(self) -> None:
        """Let go of the sockets."""
        self._ours.close()
        self._theirs.close()
