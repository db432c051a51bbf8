"""Connections between the ranks of a job, by which each learns at once that another ended or vanished.

Rank 0 listens (`Hub`), every other rank holds one connection to it (`Line`). When a process is killed, or its node, the kernel
closes the connection. Where no connection can be made, the ranks still meet through files, more slowly.
"""

import contextlib
import json
import secrets
import selectors
import socket
import threading
import time
from typing import Any

CONNECT_TIMEOUT_S = 10.0
STOP = b"stop\n"
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel find out within half a minute when the other node lost its power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Hub:
    """The side of rank 0: who is connected, who reported an end, who vanished."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.token = secrets.token_hex(16)
        self.hosts: dict[int, str] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.lost_at: dict[int, float] = {}
        self._lines: dict[int, socket.socket] = {}
        self._told_to_stop = False
        self._server = socket.create_server(("", 0), backlog=1024)
        self.port = int(self._server.getsockname()[1])
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def connected(self) -> set[int]:
        """Ranks whose connection stands."""
        return set(self._lines)

    def stop_all(self) -> None:
        """Tell every other rank to stop, also those that come later."""
        self._told_to_stop = True
        for connection in list(self._lines.values()):
            with contextlib.suppress(OSError):
                connection.sendall(STOP)

    def close(self) -> None:
        """Close all connections."""
        self._open = False
        self._thread.join(2.0)
        for connection in (self._server, *self._lines.values()):
            connection.close()

    def _listen(self) -> None:
        buffers: dict[socket.socket, bytes] = {}
        ranks: dict[socket.socket, int] = {}
        while self._open:
            for key, _ in self._selector.select(timeout=0.2):
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                if connection is self._server:
                    self._accept(buffers)
                    continue
                try:
                    received = connection.recv(65536)
                except OSError:
                    received = b""
                *lines, buffers[connection] = (buffers[connection] + received).split(b"\n")
                for line in lines:
                    self._read(connection, line, ranks)
                if not received:
                    self._selector.unregister(connection)
                    connection.close()
                    del buffers[connection]
                    rank = ranks.pop(connection, None)
                    if rank is not None:
                        self._lines.pop(rank, None)
                        self.lost_at.setdefault(rank, time.monotonic())

    def _accept(self, buffers: dict[socket.socket, bytes]) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            _keep_alive(connection)
            buffers[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket, line: bytes, ranks: dict[socket.socket, int]) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return
        if not isinstance(message, dict) or message.get("token") != self.token:
            return
        rank = int(message["rank"])
        if "status" in message:
            self.reports[rank] = message | {"time": time.time() - message["age"]}  # by this node's clock
            return
        ranks[connection] = rank
        self.hosts[rank] = message["host"]
        self._lines[rank] = connection
        if self._told_to_stop:
            with contextlib.suppress(OSError):
                connection.sendall(STOP)


class Line:
    """The side of another rank."""

    def __init__(self, connection: socket.socket, token: str) -> None:
        """Wrap a connection; use `connect`."""
        self._connection, self._token = connection, token
        self._stop = False

    @classmethod
    def connect(cls, address: str, port: int, token: str, rank: int, host: str) -> "Line | None":
        """Connect to rank 0; None when that is not possible."""
        try:
            connection = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S)
        except OSError:
            return None
        _keep_alive(connection)
        line = cls(connection, token)
        line.report({"rank": rank, "host": host})
        connection.setblocking(False)
        return line

    def should_stop(self) -> bool:
        """Whether rank 0 said so, or is gone."""
        try:
            received = self._connection.recv(1024)
        except BlockingIOError:
            return self._stop
        except OSError:
            received = b""
        self._stop = self._stop or not received or STOP in received
        return self._stop

    def report(self, message: dict[str, Any]) -> None:
        """Tell rank 0 how this rank ended."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message | {"token": self._token}).encode() + b"\n")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
