"""A folder of files under a SHA-256 manifest (`sha256sum -c MANIFEST.sha256` checks it too): whole, or refused."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "MANIFEST.sha256"


class Broken(ValueError):
    """The folder is not what its manifest says. The message names the file and the reason."""


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes `files` and their manifest as `folder`, all or none; a sealed folder that is there already is replaced.

    Raises:
      ValueError: `folder` is something else than a sealed folder of the same files.
    """
    names = {*files, MANIFEST}
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and {*os.listdir(folder)} in ({*()}, names))):
        raise ValueError(f"{folder} exists and is not a folder of {sorted(names)}; it is not overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        for name, content in [*files.items(), (MANIFEST, _manifest(files))]:
            with open(temporary / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o755)  # mkdtemp's is private
        if folder.exists():
            # No call replaces a folder in one step. A crash between these two leaves both whole, under hidden names.
            os.replace(folder, old)
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """The bytes of exactly the files in `limits`, each at most so long, as the manifest says.

    Raises:
      Broken: with the reason.
    """
    peek(folder, next(iter(limits)), next(iter(limits.values())))  # says why a folder cannot be read at all
    if extra := sorted({entry.name for entry in os.scandir(folder)} - {*limits, MANIFEST}):
        raise Broken(f"file {extra[0][:60]!r} does not belong there")
    manifest = _content(folder / MANIFEST, 4096)
    files = {}
    for name, limit in limits.items():
        files[name] = _content(folder / name, limit)
        _check(name, files[name], manifest)
    if manifest != _manifest(files):
        raise Broken(f"{MANIFEST}: lists something else than {', '.join(limits)}, in that order")
    return files


def peek(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of one file, as the manifest says, whatever else is in the folder.

    Raises:
      Broken: with the reason.
    """
    if not folder.is_dir():
        raise Broken("there is no such folder")
    content = _content(folder / name, limit)
    _check(name, content, _content(folder / MANIFEST, 4096))
    return content


def _manifest(files: Mapping[str, bytes]) -> bytes:
    return b"".join(_line(name, content) for name, content in files.items())


def _line(name: str, content: bytes) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()


def _check(name: str, content: bytes, manifest: bytes) -> None:
    if _line(name, content) not in manifest.splitlines(keepends=True):
        raise Broken(f"{name}: its SHA-256 is not the one in {MANIFEST}; one of the two was damaged or replaced")


def _content(path: Path, limit: int) -> bytes:
    """Reads a file once: what is hashed is what is parsed, whatever happens to the folder meanwhile."""
    try:
        # O_NONBLOCK: opening a named pipe that somebody put here must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Broken(f"{path.name} missing") from None
    except OSError as error:
        raise Broken(f"{path.name}: a link, or not a file that can be read ({error.strerror})") from None
    with open(descriptor, "rb", opener=None) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Broken(f"{path.name}: not a plain file")
        if status.st_size > limit:
            raise Broken(f"{path.name}: {status.st_size} bytes, more than the {limit} allowed")
        return file.read(limit)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
