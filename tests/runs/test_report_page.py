"""The page of a run, as a real browser shows it: offline, quiet, inside its width, and with every name escaped."""

import functools
import html
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from runs.cli import main
from runs.folder import RunFolder
from runs.journal import Journal
from runs.report import pictures
from runs.report.contents import Contents
from runs.report.page import MAX_BYTES, render, write

EVIL = "<script>alert(1)</script>"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 --dump-dom"
)
# Stands around an unmodified page, at one width after the other, and looks into it: the page itself may run no script.
AROUND = """<!doctype html><title>-</title><pre id="seen"></pre><script>
const seen = [];
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.src = "page.html";
  document.body.append(frame);
  await new Promise(loaded => frame.onload = loaded);
  const page = frame.contentDocument, all = [...page.querySelectorAll("*")], images = [...page.images];
  page.querySelectorAll("details").forEach(d => d.open = true);
  seen.push({
    width, inner: frame.contentWindow.innerWidth, scroll: page.documentElement.scrollWidth, body: page.body.scrollWidth,
    images: images.length, broken: images.filter(i => !i.naturalWidth).length,
    mute: images.filter(i => i.alt.trim().length < 20).length, scripts: page.scripts.length,
    beyond: all.filter(e => !e.closest(".scroll, pre") && e.getBoundingClientRect().right > width + 1).length,
    tiny: all.filter(e => e.innerText?.trim() && parseFloat(getComputedStyle(e).fontSize) < 12).length,
    title: page.title, text: page.body.innerText.length,
  });
  frame.remove();
}
(async () => {
  for (const width of [400, 1400]) await look(width);
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


TABLE = f"""| task (environment steps) | {EVIL} | ppo |
|---|---|---|
| {EVIL} (100) | 6.00 [5.00, 7.00] | 2.00 [1.00, 3.00] |
| **normalised IQM** | **3.000 [2.500, 3.500]** | **1.000 [0.500, 1.500]** |

3 agents per cell.

- {EVIL} against ppo: won; IQM 3.000 [2.500, 3.500] against 1.000 [0.500, 1.500]; P(improvement) 1.000 [1.000, 1.000]
- {EVIL} against [a link](http://example.invalid): undecided (the intervals overlap)
"""


def drawn(file, width=1000, height=300, says=""):
    file.parent.mkdir(parents=True, exist_ok=True)
    about = PngImagePlugin.PngInfo()
    if says:
        about.add_text("Description", says)
    Image.effect_noise((width, height), 40).save(file, pnginfo=about)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A discovered rule whose name and task try to break out of the page."""
    path = tmp_path_factory.mktemp("runs") / "run"
    settings = {
        "name": EVIL, "rule": "Schedule", "rule.base": "LPG", "outer": "GradientDescent", "steps": 40,
        "outer.estimator": "TruncatedBackprop", **{f"inner.setting_number_{i}": "x" * 90 for i in range(30)},
    }  # fmt: skip
    folder = RunFolder.create_or_resume(path, settings, "cpu", ["discover", "smoke", "--name", EVIL])
    journal = Journal(path)
    journal.start(run=folder.run, experiment=EVIL, name=EVIL, params={}, tags={})
    for step in (20, 40):
        journal.metrics(step, {f"inner/{EVIL.replace('/', '')}/return": step / 100, "meta/loss": 1.0})
    journal.close()
    (path / "report").mkdir()
    (path / "report" / "table.md").write_text(TABLE)
    scores = [f"{EVIL},catch,{i},{6 + i}.0\nppo,catch,{i},{1 + i}.0\n" for i in range(3)]
    (path / "report" / "scores.csv").write_text("rule,task,seed,score\n" + "".join(scores))
    drawn(path / "report" / "curves.png", 1900)
    drawn(path / "report" / "intervals.png")
    (path / "rule").mkdir()
    (path / "rule" / "rule.json").write_text(
        json.dumps({"record": {"families": [EVIL], "outer_step": 40, "env_steps": 9}})
    )
    (path / "rule" / "MANIFEST.sha256").write_text(f"{'a' * 64}  rule.json\n")
    (path / "sweep.csv").write_text(f"width,score,{EVIL}\n" + "".join(f"{i},{i / 7},x\n" for i in range(250)))
    drawn(path / "training.png", 504)
    drawn(path / "explain" / "drift.png", 2000, says=f"The drift of {EVIL} is 0 on 12 % of the square.")
    drawn(path / "sweep-width.png")
    Image.new("P", (80, 80)).save(path / "report" / "agent.gif")
    (path / "report" / "agents").mkdir()
    (path / "report" / "agent.gif").rename(path / "report" / "agents" / "catch.gif")
    return path


def chromium(folder: Path, name: str, profile: Path) -> tuple[dict, list[str], list[str]]:
    """What a browser makes of `name`, served from `folder`: the DOM, its console, and what it asked the server for."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium on PATH: the page was not shown to a browser")
    asked: list[str] = []

    class Server(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        program = [browser, *FLAGS.split(), f"--user-data-dir={profile}"]
        program += [f"http://127.0.0.1:{server.server_address[1]}/{name}"]
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_proxy")}
        done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False, env=environment)
        server.shutdown()
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked


def test_a_browser_finds_nothing_wrong_with_the_page(run, tmp_path):
    write(run, tmp_path / "page.html")
    (tmp_path / "around.html").write_text(AROUND)
    dom, console, asked = chromium(tmp_path, "around.html", tmp_path / "profile")
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert console == []
    assert {path for path in asked if path != "/favicon.ico"} == {"/around.html", "/page.html"}
    for at in seen:
        assert at["inner"] == at["width"]
        assert at["scroll"] <= at["width"], at
        assert at["body"] <= at["width"], at
        assert (at["beyond"], at["broken"], at["mute"], at["scripts"], at["tiny"]) == (0, 0, 0, 0, 0), at
        assert at["images"] >= 6
        assert at["title"] == f"{EVIL} · learned-rl"
        assert at["text"] > 1000


def test_the_browser_would_have_noticed(tmp_path):
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    bad = '<img width="3000" height="9" src="http://example.invalid/x">'
    (tmp_path / "page.html").write_text(f"<!doctype html><title>bad</title>{policy}{bad}")
    (tmp_path / "around.html").write_text(AROUND)
    dom, console, _ = chromium(tmp_path, "around.html", tmp_path / "profile")
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', dom, re.DOTALL)[1]))
    assert any("Content Security Policy" in line for line in console)
    assert [(at["scroll"] > at["width"], at["mute"], at["broken"]) for at in seen] == [(True, 1, 1)] * 2


def test_the_page_is_one_file_that_says_it_all(run):
    page = render(Contents.of(run))
    assert "script-src" not in page
    assert EVIL not in page
    assert html.escape(EVIL) in page
    assert "default-src 'none'; img-src data:" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<a href=" not in page.replace('<a href="#', "")
    for text in (
        "Schedule around LPG was learned on",
        "TruncatedBackprop: 40 of 40 outer steps, 9 environment steps",
        "against ppo: won; IQM",
        "from 0.2 at outer step 20 to 0.4 at step 40",
        "is 0 on 12 % of the square",
        "ppo ends at 2.00",
        "learned-rl discover smoke --name",
        "learned-rl reproduce path/to/run",
        "a" * 64,
        "50 rows more are in the file",
        "inner.setting_number_29",
    ):
        assert text in page, text
    assert page.count('class="won"') == 1


def test_what_has_no_room_is_left_out_with_a_sentence(run, monkeypatch):
    monkeypatch.setattr(pictures, "BUDGET", 200_000)
    page = render(Contents.of(run))
    assert "There was no room for this figure" in page
    assert len(page) < 300_000


def test_a_run_that_has_just_begun_has_a_page_and_the_command_writes_it(tmp_path, capsys):
    RunFolder.create_or_resume(tmp_path / "new", {"suite": "smoke", "rule": "ppo", "seeds": 2, "against": "a2c"}, "cpu")
    summary = tmp_path / "summary.json"
    assert main(["report", str(tmp_path / "new"), "--json", str(summary)]) == 0
    page = tmp_path / "new" / "report.html"
    assert json.loads(summary.read_text())["page"] == str(page)
    assert "Nothing was compared yet" in page.read_text()
    assert "with the frozen rule ppo on the suite smoke, 2 a task, beside a2c" in page.read_text()
    assert page.stat().st_size < MAX_BYTES
    before = page.read_bytes()
    assert main(["report", str(tmp_path / "new"), "--out", str(tmp_path / "deep" / "other.html")]) == 0
    assert (tmp_path / "deep" / "other.html").read_bytes() == before
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err
