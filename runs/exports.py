"""`learned-rl export`: a rule for other code."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

from runs import catalogue
from runs.errors import DiskError, UsageError


def hand_out(known: argparse.Namespace) -> dict[str, Any]:
    """Writes a rule as a folder in one format.

    Raises:
      UsageError: there is no such rule, it has no such form, or the folder is something else.
      ArtifactRefused: the rule file must not be loaded.
      DiskError: the folder cannot be written.
    """
    name, loaded = catalogue.loaded(known.rule, known.tracking_uri)
    from learned_rl import sealed_folder
    from learned_rl.export.formats import write
    from learned_rl.export.parts import NotExportable

    like = _tree(known.like) if known.like else None
    folder = (known.out or Path("out") / "exports" / f"{name}-{known.to}").absolute()
    try:
        files = write(loaded.rule, loaded.theta, name, loaded.record, known.to, like)
        sealed_folder.write(folder, files)
    except NotExportable as why:
        raise UsageError(f"{known.rule} cannot be exported to {known.to}: {why}") from why
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise DiskError(f"{folder}: {error.strerror}") from error
    for file, content in files.items():
        print(f"{folder / file}  {len(content)} bytes")
    return {"folder": str(folder), "files": sorted(files)}


def _tree(file: Path) -> dict[str, Any]:
    """The arrays of an .npz file, `a/b` standing in a dictionary `a`; nothing is unpickled."""
    import numpy as np

    tree: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                *path, last = name.split("/")
                at = tree
                for key in path:
                    at = at.setdefault(key, {})
                at[last] = arrays[name]
    except OSError as error:
        raise UsageError(f"--like {file}: {error.strerror or error}") from error
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"--like {file}: not an .npz file of plain arrays ({str(error)[:100]})") from error
    return tree
