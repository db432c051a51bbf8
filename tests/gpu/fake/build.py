"""Compile the fake CUDA runtime, and the environment of processes that shall find it instead of a real one."""

import hashlib
import importlib.util
import os
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent / "cuda"
BUILD = Path(__file__).parents[3] / "build" / "fake-gpu"
NAME = "libcuda.so.1"
"""The one library stands in for the runtime, by being loaded first, and for the driver, which programs look up by this name."""

FLAGS = ("-O1", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror", f"-Wl,-soname,{NAME}")


def fake_environment(gpus: int = 1) -> dict[str, str]:
    """Return the environment of a process that has `gpus` fake GPUs; compiles the library if that was not done yet."""
    library = _library()
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return environment | {
        "FAKE_GPUS": str(gpus),
        "LD_PRELOAD": str(library),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")])),
        "TRITON_LIBCUDA_PATH": str(library.parent),
        "TRITON_CACHE_DIR": str(library.parent / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(library.parent / "inductor"),
    }


def _library() -> Path:
    """Return the compiled library; its folder is named by a digest of what it is made from."""
    includes = _includes()
    sources = sorted(SOURCES.glob("*.[ch]"))
    made_from = [str([*FLAGS, *includes]).encode(), *(source.read_bytes() for source in sources)]
    folder = BUILD / hashlib.sha256(b"\0".join(made_from)).hexdigest()[:16]
    if not (folder / NAME).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(folder / NAME, [source for source in sources if source.suffix == ".c"], includes)
    return folder / NAME


def _compile(library: Path, sources: list[Path], includes: list[Path]) -> None:
    """Compile to a temporary name first: several test processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / NAME
        subprocess.run([compiler(), *FLAGS, *(f"-I{each}" for each in includes), *sources, "-o", made], check=True)
        made.rename(library)


def compiler() -> str:
    """Return the name of the C compiler."""
    return os.environ.get("CC", "cc")


def _includes() -> list[Path]:
    """Return the folders of CUDA's headers: those of torch's runtime, and of Triton, which has those that they include."""
    roots = [Path(place) for name in ("nvidia", "triton.backends.nvidia") for place in _places(name)]
    found = [header.parent for root in roots for header in sorted(root.rglob("cuda_runtime_api.h"))]
    assert found, "the headers of CUDA come with torch for CUDA, and with Triton: is this torch one for the CPU only?"
    return found


def _places(package: str) -> list[str]:
    spec = importlib.util.find_spec(package)
    return list(spec.submodule_search_locations or ()) if spec else []
