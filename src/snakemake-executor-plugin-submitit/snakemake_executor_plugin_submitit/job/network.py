"""Find the address at which the nodes of a job reach rank 0, and the network interface towards it.

A node's own name may be of no use to the others: Debian maps it to 127.0.1.1 by default. So the routing table
decides: the address is that of the interface through which this node reaches the others.
"""

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "127.0.0.1"
# read by gloo (one name) and NCCL (a prefix; with = in front, one name)
INTERFACE_VARIABLES = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}
SCONTROL_TIMEOUT_S = 20
_ANY_PORT = 9  # nothing is sent
_SIOCGIFCONF = 0x8912
_IFREQ = struct.Struct("16sHH4s16x")
_MAX_INTERFACES = 512


def host() -> str:
    """Return the name of this node, as Slurm knows it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def rank0_address(num_nodes: int) -> str:
    """Return an address of this node that the other nodes of the job can reach; 127.0.0.1 if there are none."""
    if num_nodes == 1:
        return LOOPBACK
    here = host()
    peers = [node for node in _job_nodes() if node != here]
    sources = [source for node in peers[:2] if (source := _towards_node(node)) is not None]
    candidates = [*sources, *_addresses(here), *_addresses(slurm_node(here).get("NodeAddr", ""))]
    reachable = [address for address in candidates if not _is_loopback(address)]
    if reachable:
        return reachable[0]
    # the "nodes" may all be on this machine
    return candidates[0] if candidates else socket.gethostname()


def interface_variables(address: str) -> dict[str, str]:
    """Return the variables that make gloo and NCCL use the interface towards rank 0, except those that are already set."""
    interface = interface_towards(address)
    if interface is None:
        return {}
    return {name: form.format(interface) for name, form in INTERFACE_VARIABLES.items() if name not in os.environ}


def interface_towards(address: str) -> str | None:
    """Return the name of the interface through which this node reaches an address, or None if there is no route."""
    for target in _addresses(address):
        source = source_towards(target)
        for name, own in _interfaces():
            if source is not None and own == source:
                return name
    return None


def source_towards(address: str) -> str | None:
    """Return the address of this node from which packets to another address are sent, or None if there is no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _ANY_PORT))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def slurm_node(node: str) -> dict[str, str]:
    """Return what Slurm reports about a node; empty outside of Slurm."""
    shown = _scontrol("show", "node", node)
    return {name: value for word in shown.split() for name, separator, value in [word.partition("=")] if separator}


def _towards_node(node: str) -> str | None:
    addresses = _addresses(node) or _addresses(slurm_node(node).get("NodeAddr", ""))
    return next((source for address in addresses if (source := source_towards(address)) is not None), None)


def _job_nodes() -> list[str]:
    listed = os.environ.get("SLURM_JOB_NODELIST", "")
    if "[" in listed:
        return _scontrol("show", "hostnames", listed).split()
    return [node for node in listed.split(",") if node]


def _scontrol(*words: str) -> str:
    try:
        return subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=SCONTROL_TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _addresses(name: str) -> list[str]:
    """Return the numeric addresses of a host, IPv4 first."""
    if not name:
        return []
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in sorted(found, key=lambda each: each[0] != socket.AF_INET)))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _interfaces() -> Iterable[tuple[str, str]]:
    """Yield the name of each interface of this node with each of its addresses."""
    buffer = bytearray(_IFREQ.size * _MAX_INTERFACES)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        pointer = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        filled = fcntl.ioctl(probe, _SIOCGIFCONF, struct.pack("iP", len(buffer), pointer))
    length = struct.unpack("iP", filled)[0]
    for name, _, _, address in _IFREQ.iter_unpack(bytes(buffer[:length])):
        yield name.rstrip(b"\0").decode().partition(":")[0], socket.inet_ntoa(address)
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split()
        yield words[5], str(ipaddress.IPv6Address(bytes.fromhex(words[0])))
