"""What the fake CUDA runtime has counted in this process; the kinds are those of `cuda/fake.h`."""

from __future__ import annotations

import ctypes
import functools
import os


def is_fake() -> bool:
    """Return whether this process has fake GPUs."""
    return "FAKE_GPUS" in os.environ


@functools.cache
def runtime() -> ctypes.CDLL:
    """Return the fake runtime, which this process was started with."""
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.fake_kind.restype = ctypes.c_char_p
    library.fake_count.restype = ctypes.c_long
    library.fake_library_call.argtypes = [ctypes.c_void_p]
    return library


@functools.cache
def kinds() -> list[str]:
    """Return the names of what is counted."""
    return [runtime().fake_kind(kind).decode() for kind in range(runtime().fake_num_kinds())]


def counts(device: int = 0) -> dict[str, int]:
    """Return how often each kind has happened on a device, since the process has started."""
    return {name: runtime().fake_count(device, kind) for kind, name in enumerate(kinds())}


class Counted:
    """What happened on a device within a `with` block: an attribute for each kind, such as `launches`, and all as `by_kind`."""

    def __init__(self, device: int = 0) -> None:
        self._device = device
        self.by_kind: dict[str, int] = {}

    def __enter__(self) -> Counted:
        self._before = counts(self._device)
        return self

    def __exit__(self, *error: object) -> None:
        self.by_kind = {name: number - self._before[name] for name, number in counts(self._device).items()}

    def __getattr__(self, name: str) -> int:
        if name.startswith("_") or name not in self.by_kind:
            raise AttributeError(name)
        return self.by_kind[name]
