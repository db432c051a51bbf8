"""Connections between the ranks of a job, through which each learns at once that another has ended or vanished.

Rank 0 listens (`Server`); every other rank holds one connection to it (`Client`). If a process or its node is killed, the kernel
closes the connection. If no connection can be made, the ranks still communicate through files, more slowly.
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
    """Let the kernel detect within half a minute that the other node has lost its power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Server:
    """The end of rank 0: tracks which ranks are connected, have reported their end, or have vanished."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.token = secrets.token_hex(16)
        self.hosts: dict[int, str] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.lost_at: dict[int, float] = {}
        self._connections: dict[int, socket.socket] = {}
        self._stopping = False
        self._server = socket.create_server(("", 0), backlog=1024)
        self.port = int(self._server.getsockname()[1])
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def connected(self) -> set[int]:
        """Return the ranks whose connection is open."""
        return set(self._connections)

    def stop_all(self) -> None:
        """Tell every other rank to stop, including those that connect later."""
        self._stopping = True
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError):
                connection.sendall(STOP)

    def close(self) -> None:
        """Close all connections."""
        self._open = False
        self._thread.join(2.0)
        for connection in (self._server, *self._connections.values()):
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
                *messages, buffers[connection] = (buffers[connection] + received).split(b"\n")
                for message in messages:
                    self._read(connection, message, ranks)
                if not received:
                    self._selector.unregister(connection)
                    connection.close()
                    del buffers[connection]
                    rank = ranks.pop(connection, None)
                    if rank is not None:
                        self._connections.pop(rank, None)
                        self.lost_at.setdefault(rank, time.monotonic())

    def _accept(self, buffers: dict[socket.socket, bytes]) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._server.accept()
            _keep_alive(connection)
            buffers[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket, text: bytes, ranks: dict[socket.socket, int]) -> None:
        try:
            message = json.loads(text)
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
        self._connections[rank] = connection
        if self._stopping:
            with contextlib.suppress(OSError):
                connection.sendall(STOP)


class Client:
    """The end of any other rank."""

    def __init__(self, connection: socket.socket, token: str) -> None:
        """Wrap a connection; use `connect`."""
        self._connection, self._token = connection, token
        self._stop = False

    @classmethod
    def connect(cls, address: str, port: int, token: str, rank: int, host: str) -> "Client | None":
        """Connect to rank 0; return None if that is not possible."""
        try:
            connection = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S)
        except OSError:
            return None
        _keep_alive(connection)
        client = cls(connection, token)
        client.report({"rank": rank, "host": host})
        connection.setblocking(False)
        return client

    def should_stop(self) -> bool:
        """Return True if rank 0 has told this rank to stop, or is gone."""
        try:
            received = self._connection.recv(1024)
        except BlockingIOError:
            return self._stop
        except OSError:
            received = b""
        self._stop = self._stop or not received or STOP in received
        return self._stop

    def report(self, message: dict[str, Any]) -> None:
        """Send rank 0 a message, such as how this rank ended."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message | {"token": self._token}).encode() + b"\n")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
