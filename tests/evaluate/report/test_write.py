import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from support import fake_run

from st2llm.errors import DataError
from st2llm.evaluate.report.write import write_report

pytestmark = pytest.mark.slow

QUICK = {"days": 12, "arms": fake_run.FEW_ARMS}
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PROBE = """<script>
const complaints = [];
addEventListener("error", e => complaints.push(e.message || "a resource: " + (e.target.src || e.target.href)), true);
addEventListener("load", () => {
  const found = [];
  for (const width of [1280, 390]) {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.srcdoc = document.getElementById("page").textContent;
    document.body.append(frame);
    found.push(new Promise(done => frame.onload = () => {
      const root = frame.contentDocument.documentElement;
      done(`${width}:${root.scrollWidth}:${frame.contentDocument.querySelectorAll("svg").length}`);
    }));
  }
  Promise.all(found).then(all => {
    document.getElementById("out").textContent = "measured " + all.join(" ") + " complaints " + complaints.length;
  });
});
</script>"""


class Page(HTMLParser):
    """What the tests look at: headings, figures, table headers, ids, links and everything that could be fetched."""

    def __init__(self, text):
        super().__init__()
        self.headings, self.figures, self.ids, self.links, self.fetched, self.tags = [], [], [], [], [], []
        self.unscoped = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        have = dict(attrs)
        self.tags.append(tag)
        self.ids += [have["id"]] if "id" in have else []
        self.unscoped += tag == "th" and "scope" not in have
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg":
            self.figures.append(have.get("aria-label"))
        if tag == "a":
            self.links.append(have.get("href"))
        if tag in {
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "source",
            "video",
            "audio",
            "base",
            "form",
        }:
            self.fetched.append(tag)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = fake_run.write(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def html(run):
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(run):
    return (run / "report.md").read_text(encoding="utf-8")


def test_the_page_asks_the_network_for_nothing(html):
    assert Page(html).fetched == []
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert not re.search(r'(?:src|href)\s*=\s*"(?!#)', html)


def test_the_page_is_small_enough_to_send(html):
    assert len(html.encode()) < 1_500_000


def test_the_page_has_one_first_heading_and_skips_no_level(html):
    levels = Page(html).headings
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_every_figure_speaks_and_every_header_cell_has_a_scope(html):
    page = Page(html)
    assert len(page.figures) >= 12
    assert all(page.figures)
    assert page.unscoped == 0


def test_every_link_leads_to_an_id_and_no_id_is_there_twice(html):
    page = Page(html)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_verdict_stands_in_both_reports(html, markdown):
    sentence = (
        "smollm2-135m (6 of 30 layers, bf16) hurt: its best arm, llm-lora, is 3.1 % worse [−5.0, −1.2] "
        "than ridge-deviation."
    )
    assert f"<h1>{sentence}</h1>" in html
    assert f"**{sentence}**" in markdown


def test_a_demo_is_labelled_in_both_reports(html, markdown):
    assert "<title>DEMO: " in html
    assert markdown.startswith("# DEMO: ")


def test_a_run_that_is_no_demo_never_says_so(tmp_path):
    write_report(fake_run.write(tmp_path, fake_run.Plan(demo=False, **QUICK)))
    assert "DEMO" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "DEMO" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_every_predictor_has_a_row_in_both_tables(html, markdown):
    for arm in fake_run.ARMS:
        assert re.search(rf'<th scope="row"><span class="dot \w+"></span>{arm.name}<', html)
        assert re.search(rf"^\| {arm.name} ", markdown, re.MULTILINE)


def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(markdown):
    widths = set()
    for block in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert widths


def test_words_of_models_and_cards_do_not_act(html, markdown):
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    assert "<script" not in markdown
    assert r"\| \*\*bold\*\*" in markdown


def test_the_models_own_words_are_quoted_and_an_unreadable_answer_is_shown(html):
    assert html.count("<blockquote>") == 4
    assert "Not readable: no number in the first 4 words" in html


def test_both_reports_hold_the_ledger_of_answers_beside_the_three_rules(html, markdown):
    assert "| predictor | answers | readable | unreadable | out of range | invalid |" in markdown
    assert "| text | 210 | 208 | 1 | 0 | 0 | 0 | 1 | 0 |" in markdown
    assert (
        markdown.index("### Text answers") < markdown.index("under three rules") < markdown.index("## Contr")
    )
    assert html.index(">Text answers<") < html.index("penalised (worst null rule)") < html.index('id="cost"')
    assert '<th scope="row">text</th><td>210</td><td>208</td><td>1</td><td>0</td>' in html


def test_both_controls_are_shown_with_notes_gains_and_outcome(html, markdown):
    for text in (html, markdown):
        assert "the streets are nearly empty" in text
        assert "walkers are few and far between" in text
        assert "+58.0 %" in text
        assert "[−2.8, +1.2]" in text
    assert "**Positive control passed**" in markdown
    assert "**Negative control passed**" in markdown


def test_controls_say_what_was_planted_and_how_far_the_arms_are_apart(html, markdown):
    for text in (html, markdown):
        assert "a perfect use of the note gains 40.0 %" in text
        assert "differ by 7.0 % of the error" in text
    assert "| 2.0 % | +1.2 % [−0.8, +3.2] | +1.3 % [−0.7, +3.3] | failed |" in markdown


@pytest.mark.parametrize("outcome", ["vacuous", "unresolved"])
def test_a_control_without_a_result_does_not_pass(tmp_path, outcome):
    run = fake_run.write(tmp_path, fake_run.Plan(**QUICK))
    controls = json.loads((run / "controls.json").read_text())
    controls["negative"] |= {"outcome": outcome, "passed": False}
    (run / "controls.json").write_text(json.dumps(controls))
    write_report(run)
    text = (run / "report.md").read_text(encoding="utf-8")
    assert f"**Negative control {outcome.upper()}**" in text
    assert "The negative control failed" not in text


def test_a_failed_control_is_said_aloud(tmp_path):
    write_report(fake_run.write(tmp_path, fake_run.Plan(controls_passed=(False, True), **QUICK)))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**Positive control FAILED**" in text
    assert "the positive control failed: a gain that was planted was not found" in text


def test_the_protocol_names_hashes_commit_and_rules(html, markdown):
    for text in (html, markdown):
        for part in (
            "ab" * 32,
            "cd" * 32,
            "0123456789abcdef",
            "with uncommitted changes",
            "crossed effects of blocks and paired seeds",
        ):
            assert part in text


@pytest.mark.parametrize("missing", ["controls", "curves", "answers", "predictions", "scores"])
def test_a_missing_optional_file_is_named_or_passed_over_but_never_an_error(tmp_path, missing):
    write_report(fake_run.write(tmp_path, fake_run.Plan(leave_out=(missing,), **QUICK)))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    said = {
        "controls": "holds no planted controls",
        "curves": "its curves were not kept",
        "answers": "No language model was prompted for these samples",
        "predictions": "holds no predictions",
        "scores": "hurt: its best arm",
    }
    assert said[missing] in text


def test_a_run_of_baselines_alone_over_two_tasks_has_a_verdict_and_a_table_for_each(tmp_path):
    plan = fake_run.Plan(
        llm=False,
        arms=fake_run.ARMS[:6],
        tasks=("forecast-12-3", "forecast-12-6"),
        n_blocks=2,
        demo=False,
        days=20,
    )
    write_report(fake_run.write(tmp_path, plan))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.count("No language model took part") == 2
    assert text.count("Every predictor, best first") == 2
    page = Page(text)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path):
    run = fake_run.write(tmp_path, fake_run.Plan(**QUICK))
    before = {p.name for p in run.iterdir()}
    write_report(run)
    first = (run / "report.html").read_bytes(), (run / "report.md").read_bytes()
    write_report(run)
    assert first == ((run / "report.html").read_bytes(), (run / "report.md").read_bytes())
    assert {p.name for p in run.iterdir()} == before | {"report.md", "report.html"}


def test_a_folder_without_a_run_is_refused_and_left_empty(tmp_path):
    with pytest.raises(DataError, match="compare --out"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed: the page is not looked at")
def test_a_browser_shows_the_page_at_desk_and_phone_width_without_overflow_or_complaint(run, tmp_path):
    page = (run / "report.html").read_text(encoding="utf-8")
    escaped = page.replace("&", "&amp;").replace("<", "&lt;")
    probe = tmp_path / "probe.html"
    body = f'<pre id="out"></pre><textarea id="page" hidden>{escaped}</textarea>{PROBE}'
    probe.write_text(f"<!doctype html><meta charset=utf-8><body>{body}", encoding="utf-8")
    shown = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", probe.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"measured 1280:(\d+):(\d+) 390:(\d+):(\d+) complaints (\d+)", shown.stdout)
    assert found, shown.stdout[:500] + shown.stderr[-500:]
    desk, desk_figures, phone, phone_figures, complaints = map(int, found.groups())
    assert desk <= 1280
    assert phone <= 390
    assert desk_figures == phone_figures >= 12
    assert complaints == 0
    assert "CONSOLE" not in shown.stderr


def test_no_word_of_a_data_set_is_html_in_either_page(tmp_path):
    """A unit of a card reached report.md as it stood, and viewers of Markdown run what it holds."""
    run = fake_run.write(tmp_path / "run", fake_run.Plan(days=3, arms=fake_run.FEW_ARMS))
    facts = json.loads((run / "run.json").read_text())
    facts["data"] |= {"unit": "<img src=x onerror=alert(1)>", "quantity": "<b>people", "name": "<i>town"}
    (run / "run.json").write_text(json.dumps(facts))
    write_report(run)
    for name in ("report.md", "report.html"):
        page = (run / name).read_text(encoding="utf-8")
        assert "<img src=x" not in page and "<b>people" not in page and "<i>town" not in page, name
