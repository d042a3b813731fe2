import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from support import fake_run
from support.command_line import run_cli

pytestmark = pytest.mark.slow

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROBE = """<!doctype html><meta charset=utf-8><body><pre id="out"></pre><script>
const views = [[1280, ""], [390, ""], [390, "#seeds=3&family=soft"], [390, "#llm=none&family=soft&kind=no-such"]];
addEventListener("load", async () => {
  const lines = [];
  for (const [width, fragment] of views) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.src = "board.html" + fragment;
    await new Promise(done => { frame.onload = done; document.body.append(frame); });
    const page = frame.contentDocument, seen = [...page.querySelectorAll("#arms ~ .scroll tbody tr:not([hidden]) th")];
    lines.push([page.documentElement.scrollWidth, page.getElementById("shown").textContent,
      seen.map(cell => cell.childNodes[1].textContent).join(" ")].join(" | "));
    if (lines.length === 2) {
      const form = page.getElementById("filters");
      form.elements.family.value = "text";
      form.dispatchEvent(new Event("change"));
      lines.push(page.getElementById("shown").textContent + " | " + frame.contentWindow.location.hash);
      form.elements.family.focus();
      lines.push(page.activeElement.name + " " + page.activeElement.tabIndex);
    }
  }
  document.getElementById("out").textContent = lines.join("\\n");
});
</script>"""


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.tags, self.unscoped = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        have = dict(attrs)
        self.tags.append(tag)
        self.ids += [have["id"]] if "id" in have else []
        self.links += [have["href"]] if tag == "a" else []
        self.unscoped += tag == "th" and "scope" not in have


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    left_out = ("predictions", "curves", "answers", "controls")
    facts = {"data": {"name": "<b>town", "unit": "people"}}
    plans = [
        fake_run.Plan(days=25, arms=fake_run.FEW_ARMS, leave_out=left_out, seeds=(0, 1, 2), extra=facts),
        fake_run.Plan(days=25, leave_out=left_out, tasks=("forecast-48-12",)),
    ]
    for plan, name in zip(plans, ("a run", "b"), strict=True):
        lines = fake_run.write(folder / "runs" / name, plan) / "results.jsonl"
        lines.write_text(
            lines.read_text()
            .replace('"seeds"', '"old"')
            .replace('"n":', f'"seeds": {list(plan.seeds)}, "n":')
            .replace("auckland-pedestrians", "<i>town</script>" if name == "b" else "city")
        )
        (lines.parent / "report.html").write_text("<p>report")
    (folder / "runs/empty").mkdir()
    (folder / "runs/empty/results.jsonl").write_text("")
    done = run_cli("leaderboard", folder / "runs", "--out", folder / "board.html")
    assert done.returncode == 0, done.stderr
    assert "Left out" in done.stderr and "Leaderboard of 2 runs" in done.stdout
    return folder / "board.html"


@pytest.fixture(scope="module")
def text(board):
    return board.read_text(encoding="utf-8")


def test_the_page_is_complete_without_script_and_asks_the_network_for_nothing(text):
    assert {"link", "img", "iframe", "object", "base"}.isdisjoint(Page(text).tags)
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    without = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for arm in fake_run.ARMS:
        assert re.search(rf'<th scope="row"><span class="role \w+"></span>{arm.name}<', without)
    assert "−3.1 % [−5.0, −1.2]" in without
    assert "1 folder left out" in without


def test_every_link_leads_to_a_report_or_an_id(board, text):
    page = Page(text)
    inner = {link[1:] for link in page.links if link.startswith("#")}
    assert inner <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    outer = {link for link in page.links if not link.startswith("#")}
    assert {unquote(link) for link in outer} == {"runs/a run/report.html", "runs/b/report.html"}
    assert all((board.parent / unquote(link)).is_file() for link in outer)
    assert page.unscoped == 0


def test_names_from_outside_do_not_act(text):
    assert "<i>town" not in text
    assert text.count("</script>") == 2


def test_the_page_is_the_same_when_written_again(board, text):
    run_cli("leaderboard", board.parent / "runs", "--out", board.parent / "again.html")
    assert (board.parent / "again.html").read_text(encoding="utf-8") == text


def test_a_page_that_is_no_html_file_is_refused(board):
    done = run_cli("leaderboard", board.parent / "runs", "--out", board.parent / "board.pdf")
    assert done.returncode == 1
    assert "The page is an HTML file, but --out is" in done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed: the page is not looked at")
def test_a_browser_filters_by_choice_and_by_fragment_at_both_widths_without_overflow(board, tmp_path):
    probe = board.parent / "probe.html"
    probe.write_text(PROBE, encoding="utf-8")
    shown = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000",
         Path(probe).as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="out">(.*?)</pre>', shown.stdout, re.DOTALL)
    assert found and found[1], shown.stdout[:500] + shown.stderr[-500:]
    desk, phone, chosen, focus, seeds, unknown = found[1].splitlines()
    assert int(desk.split(" | ")[0]) <= 1280
    assert int(phone.split(" | ")[0]) <= 390
    assert desk.split(" | ")[1] == phone.split(" | ")[1] == "17 of 17 arms on 2 data sets"
    assert chosen == "2 of 17 arms on 2 data sets | #family=text"
    assert focus == "family 0"
    assert seeds.split(" | ")[1:] == ["1 of 17 arms on 1 data set", "llm-lora"]
    assert unknown.split(" | ")[1] == "No arm has all of these values. Choose fewer filters."
    assert "CONSOLE" not in shown.stderr
