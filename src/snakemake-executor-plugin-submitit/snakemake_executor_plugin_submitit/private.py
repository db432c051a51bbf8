"""Folders and files that nobody else may read, write or replace: 0700 and 0600, whatever the umask.

Job folders hold commands, pickles that nodes execute, and the key by which ranks authenticate each other. An existing folder
keeps its mode, so that a group may share the executor's folder on purpose; what is made inside it is private to its owner.
"""

import errno
import os
import pwd
import stat
import tempfile
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def own_folder(folder: Path) -> Path:
    """Return the folder or, if somebody else owns it, the subfolder named after this user, so that several users can share it.

    Raises:
        OSError: if the subfolder cannot be created, or is not this user's.
    """
    own = own_path(folder)
    if own != folder:
        make_folder(own)
    return own


def own_path(folder: Path) -> Path:
    """Return the path that `own_folder` returns, without creating it."""
    return folder if not folder.is_dir() or is_ours(folder) else folder / _user()


def make_folder(folder: Path) -> None:
    """Create a private folder, with parents; an existing one must be this user's, or its owner could replace what is made in it.

    Raises:
        OSError: if it cannot be created, or is not this user's.
    """
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
        if not is_ours(folder):
            raise PermissionError(
                errno.EPERM, "it belongs to another user, who could replace what is in it", str(folder)
            ) from None


def is_ours(folder: Path) -> bool:
    """Return True if a folder, and the link to it, belong to this user, or to the user to whom the file system maps this one."""
    owners = {folder.stat().st_uid, folder.lstat().st_uid}
    if owners == {os.geteuid()}:
        return True
    try:
        with tempfile.TemporaryDirectory(prefix=".owner-", dir=folder) as probe:
            return owners <= {os.geteuid(), Path(probe).stat().st_uid}
    except OSError:
        return False


def is_open_to_others(folder: Path) -> bool:
    """Return True if others may replace what is in a folder: they may write there, and no sticky bit keeps them from renaming."""
    mode = folder.stat().st_mode
    return bool(mode & OTHERS_WRITE) and not mode & stat.S_ISVTX


def write_new(path: Path, content: str | bytes, *, mode: int = FILE_MODE) -> None:
    """Write a new file; an existing one, or a link that somebody put there, is an error.

    Raises:
        OSError: if it cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
