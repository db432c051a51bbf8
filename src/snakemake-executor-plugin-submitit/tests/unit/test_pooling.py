"""Which jobs share workers, what workers request, and what becomes of the jobs of a dead worker."""

import sys

import pytest
from snakemake_interface_common.exceptions import WorkflowError

from snakemake_executor_plugin_submitit.pool.command import MODULE, snakemake_call
from snakemake_executor_plugin_submitit.pool.pools import Pools
from snakemake_executor_plugin_submitit.pool.verdict import MAX_AGAIN, Verdict, judge
from snakemake_executor_plugin_submitit.request.pooling import PoolSize, capacity, parse_pool, shared_needs, worker_request
from snakemake_executor_plugin_submitit.request.resources import Request, parse_resources
from snakemake_executor_plugin_submitit.submission.states import State

# request/pooling.py


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, None),
        ("", None),
        (0, None),
        ("0", None),
        (4, PoolSize(4)),
        ("4", PoolSize(4)),
        ("2x8", PoolSize(2, 8)),
    ],
)
def test_a_pool_is_so_many_workers_of_so_many_slots(value, size):
    assert parse_pool({"pool": value}, Request()) == size


@pytest.mark.parametrize("value", [-1, "x4", "4x", "4x0", "many", True, 1.5, "4 x 2"])
def test_an_odd_size_is_named_with_what_is_allowed(value):
    with pytest.raises(WorkflowError, match=r"resource pool=.*: expected how many Slurm jobs may serve the pool, as in 4"):
        parse_pool({"pool": value}, Request())


@pytest.mark.parametrize("resources", [{"nodes": 2}, {"tasks_per_node": 2}, {"tasks": 2}, {"mpi": "srun"}])
def test_a_job_of_several_ranks_is_a_job_of_its_own(resources):
    assert parse_pool({"pool": 2}, parse_resources(resources)) is None


@pytest.mark.parametrize("resources", [{"licenses": "tool:1"}, {"gres": "disk:1"}, {"exclusive": True}])
def test_what_cannot_be_shared_out_is_refused_side_by_side(resources):
    assert parse_pool({"pool": 2}, parse_resources(resources)) == PoolSize(2)
    with pytest.raises(WorkflowError, match="cannot be shared out among jobs side by side; use pool=2"):
        parse_pool({"pool": "2x4"}, parse_resources(resources))


def test_jobs_share_workers_whatever_their_memory_and_time_but_not_across_partitions_cpus_or_gpus():
    def needs(size=None, **resources):
        return shared_needs(parse_resources(resources), size or PoolSize(2))

    assert needs() == needs(mem_mb=100, runtime=5, max_requeues=1) == needs(size=PoolSize(3))
    others = [
        {"slurm_partition": "main"},
        {"cpus_per_task": 2},
        {"gpus_per_node": 1},
        {"qos": "low"},
        {"slurm_extra": "--spread-job"},
    ]
    assert len({needs(), needs(size=PoolSize(2, 4)), *(needs(**each) for each in others)}) == 7


def test_a_worker_offers_so_many_times_the_most_that_a_job_needs():
    requests = [parse_resources({"mem_mb": 100, "runtime": 9}, 4), parse_resources({"mem_mb": 300, "runtime": 5}, 1)]
    offered = capacity(requests, 3)
    assert (offered.cpus_per_task, offered.mem_mb, offered.runtime_min) == (12, 900, 9)
    assert capacity(requests, 3, preloads=True).mem_mb == 1500, "rounded up for each"
    assert capacity([*requests, Request()], 3).mem_mb is None, "one of them takes what the site gives"
    assert capacity([parse_resources({"gpus_per_node": 1})], 4).gpus_per_node == 4


def test_a_worker_requests_memory_for_itself_and_time_for_the_longest_job_after_the_last_start():
    asked = worker_request(Request(mem_mb=900, runtime_min=9), minutes=60)
    assert asked.mem_mb > 900
    assert asked.runtime_min == 9 + 60 + 3
    assert asked.max_requeues == 0


# pool/verdict.py


@pytest.mark.parametrize(
    ("state", "held", "verdict"),
    [
        ("NODE_FAIL", 1, Verdict.AGAIN),
        ("PREEMPTED", 3, Verdict.AGAIN),
        ("BOOT_FAIL", 1, Verdict.AGAIN),
        ("TIMEOUT", 1, Verdict.AGAIN),
        ("CANCELLED", 1, Verdict.FAILED),
        ("CANCELLED", 3, Verdict.FAILED),
        ("FAILED", 1, Verdict.FAILED),
        ("OUT_OF_MEMORY", 1, Verdict.FAILED),
        ("FAILED", 2, Verdict.ALONE),
        ("OUT_OF_MEMORY", 3, Verdict.ALONE),
        ("COMPLETED", 2, Verdict.ALONE),
    ],
)
def test_a_job_shares_the_fate_of_its_worker_only_if_it_may_be_the_cause(state, held, verdict):
    assert judge(State(state), held=held, again=0) is verdict
    assert judge(State(state), held=held, again=MAX_AGAIN) is Verdict.FAILED


def test_on_this_machine_the_only_job_of_a_dead_worker_failed_and_several_run_again():
    assert judge(None, held=1, again=0) is Verdict.FAILED
    assert judge(None, held=2, again=0) is Verdict.ALONE


# pool/command.py


def call(tail, head=""):
    return snakemake_call(f"{head}{sys.executable} -m {MODULE} {tail}")


def test_a_plain_call_of_snakemake_is_taken_apart_as_a_shell_would():
    assert call("--snakefile '/a b/Snakefile' --target-jobs 'x:n=it'\"'\"'s' --cores all") == (
        ["--snakefile", "/a b/Snakefile", "--target-jobs", "x:n=it's", "--cores", "all"],
        None,
    )
    assert call("--cores 1", head="cd '/a b' && ") == (["--cores", "1"], "/a b")


@pytest.mark.parametrize(
    "tail", ["$(x)", "'a' && rm b", "~/a", "> out", "a;b", "`x`", '"$x"', "a*", "a\nb", "'a", "{a,b}", "a|b"]
)
def test_what_a_shell_would_expand_is_left_to_a_shell(tail):
    assert call(tail) == (None, None)


@pytest.mark.parametrize("head", ["X=1 ", "module load x && ", "cd a; ", "exec "])
def test_a_call_with_anything_before_it_is_left_to_a_shell(head):
    assert call("--cores 1", head=head) == (None, None)


def test_another_python_is_left_to_a_shell():
    assert snakemake_call(f"/another/python -m {MODULE} --cores 1") == (None, None)


# pool/pools.py


@pytest.fixture
def pools(tmp_path):
    return Pools(tmp_path, tmp_path / "ended", cluster="slurm", preload=())


def queue(pools, *names, size=PoolSize(3), request=None):  # noqa: B008 - immutable
    jobs = [pools.new_job(name, request or Request(), size) for name in names]
    for job in jobs:
        pools.put(job, "true")
    return jobs


def seen(pools):
    pools.update(pools.workers_with_claims(), None, {})


def missing(pools):
    return sum(count for _, _, count in pools.to_start(nobody_is_awaited))


def nobody_is_awaited(pool):
    return False


def test_a_pool_has_no_more_workers_than_jobs_and_no_more_than_its_size(pools):
    queue(pools, "a.1", "a.2")
    assert missing(pools) == 2
    queue(pools, "a.3", "a.4", "a.5")
    assert missing(pools) == 1
    assert missing(pools) == 0


def test_idle_workers_of_every_pool_are_to_leave_while_other_jobs_wait_also_of_one_that_is_newer_than_the_wish(pools):
    jobs = queue(pools, "a.1")
    pools.want_room(True)
    jobs += queue(pools, "b.1", request=Request(cpus_per_task=2))
    folders = [job.tickets for job in jobs]
    assert folders[0] is not folders[1]
    assert [folder.room_is_wanted() for folder in folders] == [True, True]
    pools.want_room(False)
    assert [folder.room_is_wanted() for folder in folders] == [False, False]


def test_a_worker_that_has_not_started_yet_offers_what_the_jobs_that_wait_by_then_require(pools):
    queue(pools, "a.1", request=Request(mem_mb=100, runtime_min=5))
    ((pool, offered, _),) = pools.to_start(nobody_is_awaited)
    assert (offered.mem_mb, offered.runtime_min) == (100, 5)
    queue(pools, "a.2", request=Request(mem_mb=300, runtime_min=9))
    wanted = pools.wanted(pool)
    assert (wanted.mem_mb, wanted.runtime_min) == (300, 9)
    assert len(pools.take_out(pool)) == 2
    seen(pools)
    assert pools.wanted(pool) is None


def test_slots_are_filled_before_there_is_another_worker(pools):
    queue(pools, *(f"a.{n}" for n in range(9)), size=PoolSize(4, 4))
    ((pool, offered, count),) = pools.to_start(nobody_is_awaited)
    assert (count, offered.cpus_per_task, pool.name) == (3, 4, "pool.a")


def test_a_worker_that_ends_is_replaced_while_jobs_wait(pools):
    (job,) = queue(pools, "a.1")
    ((pool, offered, _),) = pools.to_start(nobody_is_awaited)
    assert not pools.worker_ended(pool, "7", offered, jobs=1)
    assert missing(pools) == 1
    pools.forget(job)
    assert not pools.worker_ended(pool, "8", offered)
    assert missing(pools) == 0


def test_workers_that_end_one_after_the_other_without_taking_anything_end_the_pool(pools):
    (job,) = queue(pools, "a.1")
    ((pool, offered, _),) = pools.to_start(nobody_is_awaited)
    assert not pools.worker_ended(pool, "0", offered, state=State("PREEMPTED"))
    assert [pools.worker_ended(pool, str(n), offered, state=State("FAILED")) for n in range(3)] == [False, False, True]
    assert pools.take_out(pool) == [job]
    assert not pool.tickets.waiting()


def test_workers_submitted_for_smaller_jobs_that_can_take_none_of_the_larger_ones_do_not_end_the_pool(pools):
    small = queue(pools, "a.1", "a.2", "a.3", size=PoolSize(4), request=Request(mem_mb=1000))
    ((pool, offered, _),) = pools.to_start(nobody_is_awaited)
    for job in small:
        pools.forget(job)
    queue(pools, "b.1", "b.2", size=PoolSize(4), request=Request(mem_mb=4000))
    assert [pools.worker_ended(pool, str(n), offered) for n in range(3)] == [False, False, False]
    ((_, offered, count),) = pools.to_start(nobody_is_awaited)
    assert (offered.mem_mb, count) == (4000, 2)


def test_a_job_that_waits_although_workers_run_gets_another_one_once_none_is_awaited(pools, monkeypatch):
    queue(pools, "a.1", "a.2", "a.3", size=PoolSize(4, 2))
    assert missing(pools) == 2
    assert missing(pools) == 0
    monkeypatch.setattr(sys.modules[Pools.__module__], "STUCK_S", 0.0)
    assert pools.to_start(lambda pool: True) == []
    assert [missing(pools) for _ in range(3)] == [1, 1, 0]


def test_a_cancelled_run_stops_the_jobs_that_it_has_adopted_too(pools, tmp_path):
    first, second = queue(pools, "a.1", "a.2")
    first.tickets.enter("7.0", {})
    first.tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    later = Pools(tmp_path, tmp_path / "ended", cluster="slurm", preload=())
    later.adopt(first)
    later.abolish()
    assert first.tickets.claimed() == {}
    assert not second.tickets.waiting()


def test_a_job_that_the_user_cancelled_does_not_hide_how_many_its_worker_held_when_it_died(pools):
    first, *others = queue(pools, "a.1", "a.2", "a.3", size=PoolSize(1, 3))
    tickets = first.tickets
    tickets.enter("7.0", {})
    tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    first.cancel()
    seen(pools)
    assert pools.again(first, State("RUNNING")) is None
    pools.forget(first)
    for _ in others:
        tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    assert all("runs again by itself" in pools.again(job, State("OUT_OF_MEMORY")) for job in others)


def test_what_a_worker_held_waits_again_once_slurm_has_requeued_it(pools):
    first, second = queue(pools, "a.1", "a.2")
    tickets = first.tickets
    tickets.enter("7.0", {})
    tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    assert (first.waits, first.job_id, second.waits) == (False, "7", True)
    before = pools.workers_with_claims()
    pools.update(before, {"7": State("COMPLETING")}, {})
    assert not first.waits
    tickets.enter("7.1", {})  # it has started again since, and taken the other one
    tickets.claim("7.1", lambda ticket: ticket.uid == second.uid)
    pools.update(before, {"7": State("PENDING")}, {})
    assert (first.waits, second.waits, second.worker) == (True, False, "7.1")


def test_jobs_of_a_dead_worker_run_again_one_at_a_time_and_then_fail_by_themselves(pools):
    first, second = queue(pools, "a.1", "a.2", size=PoolSize(1, 2))
    first.tickets.enter("7.0", {})
    for _ in range(2):
        first.tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    assert all("runs again by itself" in pools.again(job, State("FAILED")) for job in (first, second))
    first.tickets.enter("8.0", {})
    claim = first.tickets.claim("8.0", lambda ticket: True)
    assert claim.ticket.alone
    seen(pools)
    assert pools.again(first, State("FAILED")) is None


def test_a_node_that_failed_is_avoided_by_the_next_worker(pools):
    (job,) = queue(pools, "a.1")
    job.tickets.enter("7.0", {})
    job.tickets.claim("7.0", lambda ticket: True)
    seen(pools)
    assert "NODE_FAIL" in pools.again(job, State("NODE_FAIL", "", "node3"))
    ((pool, _, _),) = pools.to_start(nobody_is_awaited)
    assert pool.excluded == {"node3"}


def test_a_ticket_that_nobody_has_any_more_is_lost_only_after_a_while(pools):
    (job,) = queue(pools, "a.1")
    assert job.tickets.withdraw(job.uid)
    seen(pools)
    assert job.poll() is None
    assert not job.is_lost(None)
