"""Connections between the ranks of a job, through which each learns at once that another has ended or vanished.

Rank 0 listens (`Server`); every other rank holds one connection to it (`Client`). If a process or its node is killed, the kernel
closes the connection. If no connection can be made, the ranks still communicate through files, more slowly.

Anyone on this node, or on the network between the nodes, can connect. So both ends first prove that they know the job's key,
which is in the job's private folder and never sent: each answers the other's nonce with an HMAC. Every message carries one too,
computed with its sequence number, so that nothing can be replayed. Messages are not encrypted: they are names of nodes and exit
statuses. Strangers, whose connections are not authenticated, are limited in the length of a line, in number, and in time.
"""

import contextlib
import hmac
import json
import random
import secrets
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

CONNECT_TIMEOUT_S = 10.0
ATTEMPT_TIMEOUT_S = 3.0  # a flood of strangers may evict a connection: there are several attempts
RETRY_PAUSE_S = 0.2
PROOF_TIMEOUT_S = 5.0  # a stranger is disconnected after that
MAX_STRANGERS = 64  # a new stranger evicts a random one, so that strangers cannot lock ranks out
MAX_ACCEPTED = 16  # connections in one go; then there is a pause, so that a flood uses little CPU time
FLOOD_PAUSE_S = 0.01
MAX_LINE = 4096
WELCOME, HERE, STOP = "welcome", "here", "stop"
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


def new_key() -> str:
    """Return the key of a new job: 256 bits, as text."""
    return secrets.token_hex(32)


def _keep_alive(connection: socket.socket) -> None:
    """Let the kernel detect within half a minute that the other node has lost its power."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Seal:
    """Make and check the HMACs of one direction of one connection; each message has a number."""

    def __init__(self, key: str, sender: str, nonces: str) -> None:
        self._key, self._prefix, self._count = key.encode(), f"{sender} {nonces}", 0

    def seal(self, text: str) -> bytes:
        """Return the next message as a line."""
        line = f"{self._mac(text)} {text}\n".encode()
        self._count += 1
        return line

    def open(self, line: bytes) -> str | None:
        """Return the text of the next message, or None if it was not sealed with the key, with this number."""
        mac, _, rest = line.partition(b" ")
        text = rest.decode("utf-8", errors="replace")
        if not hmac.compare_digest(mac, self._mac(text).encode()):
            return None
        self._count += 1
        return text

    def _mac(self, text: str) -> str:
        return hmac.new(self._key, f"{self._prefix} {self._count} {text}".encode(), "sha256").hexdigest()


@dataclass
class _Peer:
    """A connection at rank 0. The other end proves that it knows the key, names its rank, and then confirms the answer."""

    connection: socket.socket
    nonce: str
    deadline: float
    incoming: _Seal | None = None
    outgoing: _Seal | None = None
    rank: int | None = None
    confirmed: bool = False
    buffer: bytes = b""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, text: str) -> None:
        """Send a message; ignore a peer that is gone or does not read."""
        assert self.outgoing is not None
        with self.lock, contextlib.suppress(OSError):
            self.connection.sendall(self.outgoing.seal(text))


class Server:
    """Rank 0's end: track which ranks are connected, have reported their end, or have vanished."""

    def __init__(self, address: str, world_size: int, key: str) -> None:
        """Listen on a free port.

        Args:
            address: the address of this node that the peers use; see `_listen_on`.
            world_size: number of ranks.
            key: the job's key.
        """
        self.hosts: dict[int, str] = {}
        self.reports: dict[int, dict[str, Any]] = {}
        self.lost_at: dict[int, float] = {}
        self._world_size, self._key = world_size, key
        self._strangers: dict[socket.socket, _Peer] = {}
        self._peers: dict[int, _Peer] = {}
        self._stopping = False
        self._server = _listen_on(address)
        self._server.setblocking(False)
        self.port = int(self._server.getsockname()[1])
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def connected(self) -> set[int]:
        """Return the ranks whose connection is open."""
        return {rank for rank, peer in list(self._peers.items()) if peer.confirmed}

    def stop_all(self) -> None:
        """Tell every other rank to stop, including those that connect later."""
        self._stopping = True
        for peer in list(self._peers.values()):
            peer.send(STOP)

    def close(self) -> None:
        """Close all connections."""
        self._open = False
        self._thread.join(2.0)
        for peer in (*self._strangers.values(), *self._peers.values()):
            peer.connection.close()
        self._server.close()
        self._selector.close()

    def _listen(self) -> None:
        while self._open:
            accepted = 0
            for key, _ in self._selector.select(timeout=0.2):
                if key.data is None:
                    accepted = self._accept()
                    continue
                try:
                    alive = self._receive(key.data)
                except Exception:  # whatever one client sends, the others must be served
                    alive = False
                if not alive:
                    self._drop(key.data)
            now = time.monotonic()
            for stranger in [each for each in self._strangers.values() if each.deadline < now]:
                self._drop(stranger)
            if accepted >= MAX_ACCEPTED:
                time.sleep(FLOOD_PAUSE_S)

    def _accept(self) -> int:
        for accepted in range(MAX_ACCEPTED):
            try:
                connection, _ = self._server.accept()
            except BlockingIOError:
                return accepted
            except OSError:  # for example, no file descriptors are left
                break
            if len(self._strangers) >= MAX_STRANGERS:
                self._drop(random.choice(list(self._strangers.values())))
            self._greet(connection)
        return MAX_ACCEPTED

    def _greet(self, connection: socket.socket) -> None:
        peer = _Peer(connection, secrets.token_hex(16), time.monotonic() + PROOF_TIMEOUT_S)
        try:
            _keep_alive(connection)
            connection.settimeout(0.5)  # only for sending: what is read has already arrived
            connection.sendall(peer.nonce.encode() + b"\n")
            self._selector.register(connection, selectors.EVENT_READ, peer)
        except OSError:
            connection.close()
            return
        self._strangers[connection] = peer

    def _receive(self, peer: _Peer) -> bool:
        """Read what a client has sent; return False if the connection is to be closed."""
        try:
            received = peer.connection.recv(MAX_LINE)
        except (TimeoutError, BlockingIOError):
            return True
        except OSError:
            return False
        *lines, peer.buffer = (peer.buffer + received).split(b"\n")
        if len(peer.buffer) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            return False
        return all(self._read(peer, line) for line in lines) and bool(received)

    def _read(self, peer: _Peer, line: bytes) -> bool:
        if peer.rank is None:
            return self._admit(peer, line)
        assert peer.incoming is not None
        text = peer.incoming.open(line)
        if text is None:
            return False
        peer.confirmed = True
        if text == HERE:
            return True
        message = json.loads(text)
        self.reports[peer.rank] = message | {"rank": peer.rank, "time": time.time() - message["age"]}  # by this node's clock
        return True

    def _admit(self, peer: _Peer, line: bytes) -> bool:
        """Check a client's proof, and give this end's own; return False if the proof is not valid."""
        nonce, _, rest = line.partition(b" ")
        if len(nonce) != len(peer.nonce):
            return False
        nonces = f"{peer.nonce} {nonce.decode('ascii')}"
        incoming = _Seal(self._key, "client", nonces)
        text = incoming.open(rest)
        if text is None:
            return False
        who = json.loads(text)
        rank = int(who["rank"])
        former = self._peers.get(rank)
        if not 0 < rank < self._world_size or (former is not None and former.confirmed):
            return False
        if former is not None:
            self._drop(former)
        peer.incoming, peer.outgoing, peer.rank = incoming, _Seal(self._key, "server", nonces), rank
        del self._strangers[peer.connection]
        self.hosts[rank] = str(who["host"])
        self._peers[rank] = peer
        self.lost_at.pop(rank, None)
        peer.send(WELCOME)
        if self._stopping:
            peer.send(STOP)
        return True

    def _drop(self, peer: _Peer) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer.connection)
        peer.connection.close()
        self._strangers.pop(peer.connection, None)
        if peer.rank is not None and self._peers.get(peer.rank) is peer:
            del self._peers[peer.rank]
            if peer.confirmed:  # else it tries again
                self.lost_at.setdefault(peer.rank, time.monotonic())


def _listen_on(address: str) -> socket.socket:
    """Listen where the peers connect; on every address if no interface has this one, for example behind NAT."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, 0), family=family, backlog=1024)
    except OSError:
        return socket.create_server(("", 0), backlog=1024)


class Client:
    """The end of any rank but 0."""

    def __init__(self, connection: socket.socket, incoming: _Seal, outgoing: _Seal, rest: bytes) -> None:
        """Wrap a connection whose other end has proved that it knows the key; use `connect`."""
        self._connection, self._incoming, self._outgoing, self._buffer = connection, incoming, outgoing, rest
        self._stop = False

    @classmethod
    def connect(cls, address: str, port: int, key: str, rank: int, host: str) -> "Client | None":
        """Connect to rank 0; return None if that is not possible."""
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError, ValueError):
                return cls._connect_once(address, port, key, {"rank": rank, "host": host})
            if time.monotonic() > deadline:
                return None
            time.sleep(RETRY_PAUSE_S * (1 + random.random()))

    @classmethod
    def _connect_once(cls, address: str, port: int, key: str, who: dict[str, Any]) -> "Client":
        connection = socket.create_connection((address, port), timeout=ATTEMPT_TIMEOUT_S)
        try:
            _keep_alive(connection)
            nonce, rest = _read_line(connection, b"")
            nonces = f"{nonce.decode('ascii')} {secrets.token_hex(16)}"
            incoming, outgoing = _Seal(key, "server", nonces), _Seal(key, "client", nonces)
            connection.sendall(nonces.split()[1].encode() + b" " + outgoing.seal(json.dumps(who)))
            welcome, rest = _read_line(connection, rest)
            if incoming.open(welcome) != WELCOME:
                raise ValueError("something other than rank 0 listens there")
            connection.sendall(outgoing.seal(HERE))
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        return cls(connection, incoming, outgoing, rest)

    def should_stop(self) -> bool:
        """Return True if rank 0 has told this rank to stop, or is gone."""
        try:
            received = self._connection.recv(MAX_LINE)
            self._stop = self._stop or not received
        except BlockingIOError:
            received = b""
        except OSError:
            received, self._stop = b"", True
        *lines, self._buffer = (self._buffer + received).split(b"\n")
        for line in lines:
            self._stop = self._stop or self._incoming.open(line) == STOP
        self._buffer = self._buffer[:MAX_LINE]
        return self._stop

    def report(self, message: dict[str, Any]) -> None:
        """Tell rank 0 how this rank ended."""
        with contextlib.suppress(OSError):
            self._connection.sendall(self._outgoing.seal(json.dumps(message)))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _read_line(connection: socket.socket, buffer: bytes) -> tuple[bytes, bytes]:
    """Return the next line and what was received after it.

    Raises:
        OSError: if the connection ends or nothing comes in time.
        ValueError: if the line is too long, or not complete in time.
    """
    deadline = time.monotonic() + ATTEMPT_TIMEOUT_S
    while b"\n" not in buffer:
        if len(buffer) > MAX_LINE or time.monotonic() > deadline:
            raise ValueError("no line of a rank")
        received = connection.recv(MAX_LINE)
        if not received:
            raise ConnectionError("closed")
        buffer += received
    line, _, rest = buffer.partition(b"\n")
    return line, rest
