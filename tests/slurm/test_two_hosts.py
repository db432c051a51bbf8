"""torch.distributed over two hosts whose names, in their own eyes, are 127.0.1.1."""

import sys

from slurm_lab.two_hosts import two_hosts

SUM = """
import datetime, os, torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
total = torch.tensor([1.0 + dist.get_rank()])
dist.all_reduce(total)
print("sum", total.item(), flush=True)
dist.destroy_process_group()
"""


def test_gloo_connects_two_hosts_that_map_their_names_to_127_0_1_1(tmp_path):
    with two_hosts() as hosts:
        ranks = [hosts.start(index, tmp_path, sys.executable, "-c", SUM) for index in (0, 1)]
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert all("sum 3.0" in output for output in outputs), outputs
