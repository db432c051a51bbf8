"""`spikedistill doctor`: check what a run needs, and say what to do about what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from snakemake_executor_plugin_submitit.request.resources import GPUS, parse_resources
from spikedistill.errors import ArtifactError, SpikedistillError
from spikedistill.launch.profile import site_profile, site_resources
from spikedistill.launch.resources import gpus_per_node
from spikedistill.plan.build import Plan
from spikedistill.plan.stages import RULES, STAGES
from spikedistill.store.artifacts import Store

NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "panfs", "wekafs", "fuse")
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")


class Check(NamedTuple):
    """One finding: "ok", "warn" or "fail", what was checked, and what to do."""

    level: str
    what: str
    advice: str = ""


def run_checks(load_plan: Callable[[], Plan], profile_name: str | None) -> int:
    """Run and print every check; return 1 if one failed, else 0."""
    failed = False
    for check in _checks(load_plan, profile_name):
        print(f"{check.level:5} {check.what}" + (f"\n      -> {check.advice}" if check.advice else ""), flush=True)
        failed |= check.level == "fail"
    return int(failed)


def _checks(load_plan: Callable[[], Plan], profile_name: str | None) -> Iterator[Check]:
    plan = None
    try:
        plan = load_plan()
        yield Check("ok", f"config: {len(plan.stages)} stages, {len(plan.rows)} rows in the report")
    except SpikedistillError as err:
        yield Check("fail", f"config: {err}", "fix the keys listed above")
    yield from _torch()
    profile: dict[str, Any] = {}
    if profile_name or Path("cluster").is_dir():
        try:
            profile = site_profile(profile_name)
            yield Check("ok", f"profile: {profile_name or 'cluster'}")
        except SpikedistillError as err:
            yield Check("fail", f"profile: {err}", "name a folder with a config.yaml, such as cluster/ of this project")
    slurm = profile.get("submitit-cluster", "slurm") == "slurm"
    if plan is not None:
        yield from _store(Path(plan.config.store).expanduser(), slurm)
    if slurm:
        yield from _slurm(profile)


def _torch() -> Iterator[Check]:
    import torch

    yield Check("ok", f"torch {torch.__version__}, Python {sys.version.split()[0]}")
    bytecode = torch.__spec__.cached if torch.__spec__ else None
    if bytecode is not None and not Path(bytecode).exists():  # installed without, as uv does, and none was written just now
        yield Check(
            "warn",
            "torch has no bytecode: every process of every stage compiles it again, for many seconds of CPU time",
            f"once, by the owner of the environment: {sys.executable} -m compileall -q {Path(torch.__file__).parents[1]}",
        )
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        yield Check("ok", f"GPUs here: {names}")
    else:
        yield Check("warn", "no GPU here", "fine on a login node: stages that need one ask for it; see `spikedistill plan`")


def _store(root: Path, slurm: bool) -> Iterator[Check]:
    probe = root / f".doctor-{uuid.uuid4().hex}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        Store(root).check()
        probe.write_text("x", encoding="utf-8")
        probe.unlink()
        yield Check("ok", f"store {root.absolute()} is writable, {shutil.disk_usage(root).free / 2**30:.0f} GiB free")
    except ArtifactError as err:
        yield Check("fail", str(err))
        return
    except OSError as err:
        yield Check("fail", f"store {root.absolute()}: {err}", "choose a folder that you may write to: `store:` in config.yaml")
        return
    kind = _file_system(root)
    if slurm and not kind.startswith(NETWORK_FILE_SYSTEMS):
        yield Check(
            "warn",
            f"store is on a {kind} file system",
            "the compute nodes must see the same folder: use a shared file system",
        )


def _file_system(path: Path) -> str:
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in mounts:
        _, mount, found, *_ = line.split()
        if path.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


def _slurm(profile: dict[str, Any]) -> Iterator[Check]:
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        yield Check(
            "fail",
            f"Slurm: {', '.join(missing)} not found",
            "run on a login node of the cluster, or use --profile cluster/local on a machine without Slurm",
        )
        return
    code, version = _call("sinfo", "--version")
    reachable, partitions = _call("sinfo", "-h", "-o", "%R")
    if reachable != 0:
        yield Check("fail", f"Slurm does not answer: {partitions}", "ask the site's admins whether slurmctld is up")
        return
    yield Check("ok", f"Slurm: {version if code == 0 else 'version unknown'}")
    yield from _partitions(profile, set(partitions.split()))
    if _call("sacct", "-n", "-X", "-S", "now")[0] != 0:
        yield Check("warn", "no accounting (sacct)", "works without it; reasons of failures are less exact")
    yield from _node(profile)


def _partitions(profile: dict[str, Any], known: set[str]) -> Iterator[Check]:
    for rule in RULES:
        wanted = site_resources(rule, profile).get("slurm_partition")
        unknown = [name for name in str(wanted).split(",") if name not in known] if wanted else []
        if unknown:
            advice = f"the site has: {', '.join(sorted(known))}; set slurm_partition in the profile"
            yield Check("fail", f"{rule}: no partition {', '.join(unknown)}", advice)


def _node(profile: dict[str, Any]) -> Iterator[Check]:
    options = _placement(site_resources("evaluate", profile))
    program = "import spikedistill, snakemake, submitit, socket, os; print(socket.gethostname(), os.path.isdir(os.sys.argv[1]))"
    code, output = _call(
        "srun", "-n1", "-t2", "--immediate=60", *options, sys.executable, "-c", program, str(Path.cwd()), timeout_s=90
    )
    if code == 0 and output.endswith("True"):
        yield Check("ok", f"a job on a node sees this environment and this folder ({output.split()[0]})")
    elif code == 0:
        yield Check("fail", "a node does not see this folder", "work on a file system that is shared with the nodes")
    elif code == 124:
        yield Check("warn", "no node was free within a minute", "the environment on the nodes was not checked; try again later")
    else:
        yield Check("fail", f"a job on a node failed: {output[-400:]}", "install the environment where the nodes see it too")
        return
    yield from _gpu(profile)


def _placement(resources: Mapping[str, Any]) -> list[str]:
    """Return the options of srun that place a job as a rule with these resources would be placed."""
    flags = (("slurm_partition", "partition"), ("slurm_account", "account"), ("qos", "qos"), ("constraint", "constraint"))
    return [f"--{flag}={resources[key]}" for key, flag in flags if resources.get(key)]


def _gpu(profile: dict[str, Any]) -> Iterator[Check]:
    """Try whether a job that gets a GPU can use it, if the profile requests GPUs for any stage."""
    wanted = {stage: site_resources(stage, profile) for stage in STAGES}
    stage = next((stage for stage, resources in wanted.items() if gpus_per_node(resources)), None)
    if stage is None:
        return
    request = parse_resources({name: value for name, value in wanted[stage].items() if name in (*GPUS, "gres", "gpu_model")})
    gres = request.sbatch.get("gres") or ":".join(filter(None, ["gpu", request.gpu_model, "1"]))
    program = (
        "import torch; from spikedistill.train.distributed import why_no_gpu\n"
        "print('usable:', torch.cuda.get_device_name(0)) if torch.cuda.is_available() else print('not usable:', why_no_gpu())"
    )
    options = [*_placement(wanted[stage]), f"--gres={gres}"]
    code, output = _call("srun", "-n1", "-t3", "--immediate=60", *options, sys.executable, "-c", program, timeout_s=150)
    if code == 0 and output.startswith("usable"):
        yield Check("ok", f"a job with a GPU can use it: {output.partition(': ')[2]}")
    elif code == 0:
        advice = "compare the driver of the node (nvidia-smi) with the CUDA of torch; envs/README.md says what it needs"
        yield Check("fail", f"a job with a GPU ({gres}, for {stage}) cannot use it: {output.partition(': ')[2]}", advice)
    elif code == 124:
        yield Check("warn", "no GPU was free within a minute", "GPUs were not checked; try again later")
    else:
        yield Check("fail", f"a job with a GPU ({gres}) failed: {output[-400:]}", f"see the GPUs of {stage} in the profile")


def _call(*command: str, timeout_s: float = 20) -> tuple[int, str]:
    variables = {**os.environ, "SLURM_EXIT_IMMEDIATE": "124"}  # of an srun that finds no free node in time
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=variables)
    except (OSError, subprocess.TimeoutExpired) as err:
        return 124 if isinstance(err, subprocess.TimeoutExpired) else 127, str(err)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip()
