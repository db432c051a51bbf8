"""One rank of a training run of the tests: `python -m tests.gpu.rank FOLDER CASE`, with RANK … in the environment.

CASE is a JSON object of the keys of `Case`. Writes FOLDER/weights.pt; checkpoints after every step.
"""

import dataclasses
import datetime
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from spikedistill.train.distributed import World
from spikedistill.train.engine import train
from tests.gpu.training import Case, build_run


def main() -> None:
    """Train to the end, from the newest checkpoint if there is one."""
    folder, case = Path(sys.argv[1]), Case(**json.loads(sys.argv[2]))
    torch.backends.cudnn.allow_tf32 = False
    with World.from_environment(datetime.timedelta(minutes=2)) as world:
        run = build_run(case, folder, world)
        train(run)
        if world.is_main_process:
            torch.save(run.model.state_dict(), folder / "weights.pt")


def start(folder: Path, case: Case, *, ranks: int = 1) -> list[subprocess.Popen[bytes]]:
    """Start the ranks of a run, one for each of the first GPUs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(case) | {"engine": {"checkpoint_minutes": 0, **case.engine}})
    command = [sys.executable, "-m", "tests.gpu.rank", str(folder), text]
    places = [{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)} for rank in range(ranks)]
    return [subprocess.Popen(command, env=os.environ | meeting | place, cwd=Path(__file__).parents[2]) for place in places]


def finish(processes: list[subprocess.Popen[bytes]], folder: Path) -> dict[str, torch.Tensor]:
    """Wait for the ranks; return the weights on the CPU."""
    assert [process.wait(timeout=300) for process in processes] == [0] * len(processes)
    return torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)


if __name__ == "__main__":
    main()
