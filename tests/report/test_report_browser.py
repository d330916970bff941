import html
import json
import re
import shutil
import subprocess

import pytest
from fake_extras import everything
from fake_study import fake_study

from repalign.report import read_study
from repalign.report.html import page

CHROMIUM = shutil.which("chromium")

PROBE = """
const said = {};
const card = document.querySelector(".card");
const map = document.querySelectorAll("[data-map]")[1];
const box = map.getBoundingClientRect();
const at = (i, j) => ({clientX: box.left + box.width * (j + .5) / 4, clientY: box.top + box.height * (5 - i - .5) / 5,
  bubbles: true, pointerType: "mouse"});
said.closed = card.hidden;
map.dispatchEvent(new PointerEvent("pointermove", at(3, 2)));
said.hover = card.hidden ? "" : card.innerText;
said.cursors = document.querySelectorAll(".cursor:not([hidden])").length;
map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowUp", bubbles: true}));
said.key = card.innerText;
document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape", bubbles: true}));
said.escaped = card.hidden;
map.dispatchEvent(new PointerEvent("click", {...at(0, 0), pointerType: "touch"}));
said.tap = card.hidden ? "" : card.innerText;
said.wide = document.documentElement.scrollWidth > innerWidth;
document.body.dataset.said = JSON.stringify(said);
"""


def dump(file, folder):
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900"]
    options += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000"]
    command = [str(CHROMIUM), *options, "--dump-dom", file.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "CONSOLE" not in run.stderr, run.stderr[-2000:]
    return run.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_page_runs_in_a_real_browser(tmp_path):
    evil = "</script><script>document.body.dataset.evil='yes'</script>"
    folder = fake_study(
        tmp_path / "s",
        layers_a=[evil, "b.0", "b.1", "b.2", "norm"],
        lb=4,
        undefined=True,
        intervals=True,
        untrained="b",
    )
    everything(folder)
    text = page(read_study(folder))
    plain = folder / "plain.html"
    plain.write_text(text, encoding="utf-8")
    dom = dump(plain, tmp_path)
    body = re.search(r"<body[^>]*>", dom)
    assert body
    assert 'data-ready="yes"' in body.group()
    assert "data-error" not in dom
    assert "data-evil" not in body.group()

    probed = folder / "probed.html"
    open_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    probed.write_text(open_page.replace("</body>", f"<script>{PROBE}</script></body>"), encoding="utf-8")
    found = re.search(r'data-said="([^"]*)"', dump(probed, tmp_path))
    assert found
    said = json.loads(html.unescape(found.group(1)))
    assert said["closed"]
    assert said["escaped"]
    assert not said["wide"]
    assert said["cursors"] == 4
    for part in (
        "b.2",
        "layer3.1",
        "pocket:resnet (untrained)",
        "Linear CKA, debiased",
        "interval",
        "p adj.",
        "q",
        "indep.",
        "0.31",
    ):
        assert part in said["hover"], part
    assert "norm" in said["key"]
    assert evil in said["tap"]
    assert "undefined" in said["tap"]
