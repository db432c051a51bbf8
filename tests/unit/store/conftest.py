"""Small artifacts, made without any stage."""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from spikedistill.store.artifacts import MANIFEST, MANIFEST_BACKUP, Store
from spikedistill.store.atomic import shared_folder
from tests.unit.store.users import ALICE, GROUP

DAY_S = 86400.0
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def put():
    """Function that puts an artifact into a store at once: its content is its reference unless given; returns the reference."""

    def put(store, ref, upstream=(), *, content=None, spec=None, days_old=0.0, **more):
        content = (content or ref).encode()
        folder = store.path(ref)
        shared_folder(folder.parent)
        folder.mkdir()
        (folder / "weights.bin").write_bytes(content)
        files = {"weights.bin": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}}
        listing = json.dumps(sorted((name, entry["sha256"]) for name, entry in files.items()))
        since = time.time() - days_old * DAY_S
        manifest = {
            "schema": 1,
            "artifact": ref,
            "spec": spec or {},
            "upstream": {each: store.manifest(each)["digest"] for each in upstream},
            "files": files,
            "digest": hashlib.sha256(listing.encode()).hexdigest(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(since)),
            "spikedistill": {"version": "0.1.0", "commit": COMMIT, "dirty": False},
            **more,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest))
        (folder / MANIFEST_BACKUP).hardlink_to(folder / MANIFEST)
        os.utime(folder, (since, since))
        return ref

    return put


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def shared_store():
    """A store of a user that is shared with their group as docs/store.md says, where other users can get at it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "store"
        root.mkdir()
        os.chown(root, ALICE, GROUP)
        root.chmod(0o2775)
        yield Store(root)


@pytest.fixture
def family(store, put):
    """A store with data, a teacher, a student and its evaluation, 100 days old."""
    data = put(store, "data/digits-aaaaaaaaaa", days_old=100)
    teacher = put(store, "teachers/digits-net-seed0-bbbbbbbbbb", [data], days_old=100)
    student = put(store, "students/digits-net-kd-seed0-cccccccccc", [data, teacher], days_old=100)
    put(store, "evaluations/student-digits-net-kd-seed0-dddddddddd", [data, student, teacher], days_old=100)
    return store
