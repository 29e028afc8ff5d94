"""Figures and animations of a run folder as data URIs, each with words that say what is seen."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from runs.report.contents import Contents

BUDGET = 4_500_000  # bytes of all pictures of a page, as they stand in it
_TYPES = {".png": "image/png", ".gif": "image/gif"}
_SMALLEST = 0.55  # of its size, below which the letters of a figure cannot be read


@dataclass(frozen=True)
class Picture:
    """One `<img>`.

    Attributes:
      file: where it lies in the run folder.
      source: a data URI; "" if there was no room for it.
      says: what is seen, with numbers: its alternative text and its caption.
      width, height: in pixels.
    """

    file: str
    source: str
    says: str
    width: int
    height: int

    @property
    def narrowest(self) -> int:
        """The width in pixels at which it can still be read."""
        return round(_SMALLEST * self.width)


class Album:
    """Takes pictures as long as there is room on the page."""

    def __init__(self, contents: Contents):
        self._contents = contents
        self._left = BUDGET

    def of(self, pattern: str) -> list[Picture]:
        """The pictures that `pattern` matches in the run folder, those with curves first."""
        files = sorted(self._contents.path.glob(pattern), key=lambda file: (file.stem != "curves", file.name))
        return [self._picture(file) for file in files if file.suffix in _TYPES]

    def _picture(self, file: Path) -> Picture:
        with Image.open(file) as image:
            (width, height), own = image.size, image.info.get("Description") or image.info.get("comment", b"")
        own = own.decode("utf-8", "replace") if isinstance(own, bytes) else own
        code = base64.b64encode(file.read_bytes()).decode()
        fits = len(code) <= self._left
        self._left -= len(code) if fits else 0
        name = file.relative_to(self._contents.path).as_posix()
        source = f"data:{_TYPES[file.suffix]};base64,{code}" if fits else ""
        return Picture(name, source, own or says(self._contents, name), width, height)


def says(contents: Contents, file: str) -> str:
    """What a figure shows that brings no description of its own."""
    sentences = {
        "training.png": lambda: [f"{name}: {said}" for name, said in _training(contents)],
        "report/curves.png": lambda: [f"On {task}, {said}" for task, said in _final(contents)],
    }.get(file)
    found = sentences() if sentences else contents.verdicts
    title = {"training.png": "Return while the rule was learned", "report/curves.png": "Return along training"}
    name = title.get(file, Path(file).stem.replace("-", " ").replace("_", " ").capitalize())
    return f"{name}. {'; '.join(found) or 'Nothing was measured yet'}."


def _training(contents: Contents) -> Iterator[tuple[str, str]]:
    for metric, points in contents.curves.items():
        if metric.startswith("inner/") and metric.endswith("/return"):
            (first, before), (last, after) = points[0], points[-1]
            task = metric.split("/")[1]
            yield task, f"from {before:.3g} at outer step {first} to {after:.3g} at step {last}"


def _final(contents: Contents) -> Iterator[tuple[str, str]]:
    for task in dict.fromkeys(task for _, task in contents.scores):
        means = [(rule, np.mean(scores)) for (rule, there), scores in contents.scores.items() if there == task]
        yield task, ", ".join(f"{rule} ends at {mean:.2f}" for rule, mean in means)
