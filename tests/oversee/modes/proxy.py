"""A network between a replica and its PostgreSQL server that can go silent or break."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from sqlalchemy.engine import make_url

from safetylayers.oversee.store.database import Database


class Proxy:
    """Hands bytes on between clients of a port and a server's socket."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._broken = False
        self._flowing = _flowing()
        self._stranded: list[threading.Event] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def freeze(self) -> None:
        """Let nothing through and break nothing."""
        self._flowing.clear()

    def strand(self) -> None:
        """Let nothing more through on the connections that are open; new ones work."""
        self._flowing.clear()
        self._stranded.append(self._flowing)
        self._flowing = _flowing()

    def cut(self) -> None:
        """Break all connections, and each new one."""
        self._broken = True
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let everything through again."""
        self._broken = False
        self._flowing.set()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.mend()
        self.cut()
        for flowing in self._stranded:
            flowing.set()
        for thread in self._threads:
            thread.join(5)
        for end in (self._listener, *self._sockets):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._broken:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=_pump, args=(*pair, self._flowing)))
                self._threads[-1].start()


def _flowing() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def _pump(source: socket.socket, target: socket.socket, flowing: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            flowing.wait()
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def behind_proxy(url: str) -> Iterator[tuple[Database, Proxy]]:
    """Open a PostgreSQL database through a proxy."""
    address = make_url(url)
    folder = parse_qs(url.partition("?")[2])["host"][0]
    proxy = Proxy(f"{folder}/.s.PGSQL.5432")
    database = Database(f"postgresql://{address.username}@127.0.0.1:{proxy.port}/{address.database}?sslmode=disable")
    try:
        yield database, proxy
    finally:
        database.close()
        proxy.close()
