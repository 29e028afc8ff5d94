"""`learned-rl report`."""

import argparse
from pathlib import Path
from typing import Any

NAME, HELP = "report", "write one self-contained HTML page about a run"


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="folder of a discover, transfer or sweep run")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: RUN/report.html")


def run(known: argparse.Namespace) -> dict[str, Any]:
    from runs.report.page import write

    page = write(known.run, known.out)
    print(f"{page}  {page.stat().st_size} bytes")
    return {"page": str(page), "bytes": page.stat().st_size}
