"""Files that are either wholly there or not there at all, whatever moment the machine stops."""

import contextlib
import errno
import hashlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

from runs.errors import DiskError


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file and waits until the disk has it."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames and new names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Puts `data` at `path` in one step: a reader, or a restart after a crash, sees the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_synced(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder so that `target` appears complete or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copytree(source, partial, copy_function=lambda old, new: write_synced(Path(new), Path(old).read_bytes()))
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(target.parent)


def digest(path: Path) -> str:
    """SHA-256 over the names and contents of a file or of everything in a folder."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def disk_errors(doing: str, where: Path, needed: int | None = None) -> Iterator[None]:
    """Turns an `OSError` into a `DiskError` that says what was being done and, for a full disk, the missing bytes."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        space = f" (needs {needed} bytes, {free_bytes(where)} free)" if full and needed is not None else ""
        raise DiskError(f"{doing} failed in {where}: {error.strerror or error}{space}") from error


def free_bytes(path: Path) -> int:
    """Bytes an ordinary user may still write on the disk that holds `path`, or its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def crash_point(name: str) -> None:
    """Dies like `kill -9` here when the environment variable LEARNED_RL_CRASH_AT names this point (for tests)."""
    if os.environ.get("LEARNED_RL_CRASH_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)
