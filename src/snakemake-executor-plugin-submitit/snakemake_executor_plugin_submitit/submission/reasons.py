"""Slurm's reasons why a job is pending, in words."""

import re

WORDS = {
    "Priority": "other jobs are ahead of it in the queue",
    "Resources": "waits until enough resources are free",
    "None": "Slurm has not looked at it yet",
    "Dependency": "waits for the jobs that it depends on",
    "DependencyNeverSatisfied": "a job that it depends on failed: it will not start",
    "BeginTime": "not before its begin time; a requeued job waits a little",
    "JobHeldUser": "held by its owner: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "the limit on running tasks of its array is reached",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation",
    "ReqNodeNotAvail": "the nodes that it needs are down, drained or reserved",
    "NodeDown": "a node that it needs is down",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition starts no jobs now",
    "PartitionNodeLimit": "it requests more nodes than its partition allows: it will not start",
    "PartitionTimeLimit": "it requests more time than its partition allows: it will not start",
    "PartitionConfig": "its partition does not allow what it requests: it will not start",
    "BadConstraints": "no node has the features that it requests: it will not start",
    "InvalidAccount": "its account is not valid: it will not start",
    "InvalidQOS": "its QOS is not valid: it will not start",
    "AccountNotAllowed": "its partition does not take its account: it will not start",
    "QOSNotAllowed": "its partition or account does not take its QOS: it will not start",
    "MaxMemPerLimit": "it requests more memory than is allowed: it will not start",
    "Cleaning": "its last run is being cleaned up",
    "Prolog": "the node is being prepared",
    "BurstBufferResources": "waits for a burst buffer",
    "BurstBufferStageIn": "its burst buffer is being filled",
    "JobLaunchFailure": "its last start failed",
    "launch failed requeued held": "its start failed, and Slurm holds it: scontrol release",
}
_LIMIT = re.compile(r"(QOS|Assoc)(Grp|Max|Min)(\w*?)(?:Limit|PerJob|PerUser|PerAccount|PerNode|RunMinutes)*")
_SCOPES = (
    ("PerJob", "what a single job may request: it will not start"),
    ("PerUser", "what one user may use at a time"),
    ("PerAccount", "what one account may use at a time"),
    ("Grp", "what all jobs of it may use together"),
)
_OF = {"QOS": "the QOS", "Assoc": "the account"}


def in_words(reason: str) -> str:
    """Return what a reason of squeue means; an unknown one as it is, an empty one as empty."""
    name = reason.partition(",")[0].strip("() ")
    plain = name.replace("_", " ")
    if plain in WORDS:
        return WORDS[plain]
    limit = _LIMIT.fullmatch(name)
    if limit is None:
        return plain
    scope = next((words for sign, words in _SCOPES if sign in name), "what may be used at a time")
    return f"a limit of {_OF[limit[1]]} is reached, on {scope} ({name})"
