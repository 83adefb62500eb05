# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser without a network: it sorts, filters, fits a telephone, and is readable in the dark."""

import html
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import synthetic

from suite.report.page import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Does what a reader does, and writes what is seen into the page's title.
READER = """
const table = document.querySelector("#tables ~ .wide table");
const column = (name) => [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === name);
const values = (name) => [...table.tBodies[0].rows].map((row) => row.cells[column(name)].textContent.trim());
const click = (name) => table.tHead.rows[0].cells[column(name)].querySelector("button").click();
const visible = () => [...document.querySelectorAll("#tables ~ .wide tbody tr")].filter((row) => !row.hidden);
const seen = { before: values("Variant") };
click("Warm s"); seen.up = values("Warm s").map(parseFloat);
click("Warm s"); seen.down = values("Warm s").map(parseFloat);
const field = document.querySelector("input[type=search]");
field.value = "LOKY 2"; field.dispatchEvent(new Event("input"));
seen.filtered = visible().map((row) => row.textContent.toLowerCase());
field.value = ""; field.dispatchEvent(new Event("input"));
seen.all = visible().length;
seen.wider = [...document.querySelectorAll("body *")].filter((element) => !element.closest(".wide, svg")
  && element.getBoundingClientRect().right > innerWidth + 1).map((element) => element.tagName);
seen.colours = [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor];
seen.told = document.querySelectorAll("svg title").length;
seen.figures = ["950k (of 2M)", "1.2M (of 2M)", "129× [106, 159]", "12,000", "–"].map(figure);
document.title = "SEEN " + JSON.stringify(seen);
"""


def browse(page, *options):
    """What the reader saw."""
    if BROWSER is None:
        text = "there is no browser here: apt-get install chromium"
        if os.environ.get("CI") and sys.platform == "linux":
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    plain = ("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")
    command = [BROWSER, *plain, f"--user-data-dir={page.parent / 'profile'}", *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<title>SEEN (.+?)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = synthetic.write(tmp_path_factory.mktemp("browser"))
    write_report(folder)
    page = folder / "read.html"
    text = (folder / "report.html").read_text()
    page.write_text(text.replace("</body>", f"<script>{{{READER}}}</script></body>"))
    return page


def test_a_reader_sorts_filters_and_reads_marks(page):
    seen = browse(page, "--window-size=1200,900")
    assert seen["up"] == sorted(seen["up"])
    assert seen["down"] == sorted(seen["up"], reverse=True)
    assert len(set(seen["up"])) > 2
    assert 0 < len(seen["filtered"]) < seen["all"]
    assert all("loky" in row and "2" in row for row in seen["filtered"])
    assert seen["told"] > 50
    assert seen["wider"] == []


def test_units_count_when_figures_are_sorted(page):
    assert browse(page)["figures"] == [950_000, 1_200_000, 129, 12_000, None]


def test_nothing_but_tables_and_charts_is_wider_than_a_telephone(page):
    assert browse(page, "--window-size=390,800")["wider"] == []


def test_text_stands_out_in_the_dark(page):
    def lightness(colour):
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    text, behind = map(lightness, browse(page, "--blink-settings=preferredColorScheme=0")["colours"])
    assert text - behind > 150
    text, behind = map(lightness, browse(page, "--blink-settings=preferredColorScheme=1")["colours"])
    assert behind - text > 150
