"""One self-contained HTML file of a run."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from runs.durable import disk_errors, replace_file
from runs.report.contents import Contents
from runs.report.pictures import Album

MAX_BYTES = 5 * 2**20


def write(run: Path, out: Path | None = None) -> Path:
    """Writes the page of the run in `run`, by default to `report.html` in it; returns where.

    Raises:
      UsageError: there is no run.
      ArtifactRefused: the run is damaged.
      DiskError: the page cannot be written.
    """
    out = out or run / "report.html"
    page = render(Contents.of(run)).encode()
    with disk_errors("writing the page", out.parent, len(page)):
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, page)
    return out


def render(contents: Contents) -> str:
    """The page. Whatever comes from the run (names, settings, captions) is escaped."""
    here = FileSystemLoader(Path(__file__).parent)
    jinja = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters["outcome"] = _outcome
    return jinja.get_template("page.html").render(run=contents, **_parts(contents))


def _parts(contents: Contents) -> dict[str, Any]:
    album = Album(contents)
    return {
        "training": album.of("training.png"),
        "transfer": album.of("report/*.png"),
        "sweeps": [*album.of("*sweep*.png"), *album.of("sweep*/*.png")],
        "explained": album.of("explain/*.png"),
        "agents": album.of("report/agents/*.gif"),
        "table": _markdown(contents.table),
    }


def _outcome(verdict: str) -> str:
    """What a verdict is coloured by."""
    return next((word for word in ("won", "lost") if f": {word};" in verdict), "undecided")


def _markdown(text: str) -> Markup:
    """Tables, lists, headings and emphasis; no links, no images, no HTML: the text holds names that others chose."""
    reader = MarkdownIt("zero").enable(["table", "list", "heading", "emphasis"])
    html = reader.render(text)
    # What was text has no bare `<` any more, so this is the tag.
    wide = html.replace("<table>", '<div class="scroll" tabindex="0" role="region" aria-label="table"><table>')
    return Markup(wide.replace("</table>", "</table></div>"))  # noqa: S704 - escaped by the renderer
