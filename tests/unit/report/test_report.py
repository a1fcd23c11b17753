"""The report as a whole: what is in it, what must never be in it, and what happens when something
is missing.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cotbal.data.files import read_json, write_json, write_text
from cotbal.errors import RunError
from cotbal.jobs.rundir import RunDir
from cotbal.report import write_comparison, write_report
from cotbal.report.contents import read_contents
from cotbal.report.formatting import number
from cotbal.report.models import compare_all
from cotbal.report.page import TITLES
from cotbal.report.summary import NO_INTERVALS, SAME_TRAINING
from cotbal.scores.interval import significance
from helpers.errors import a_line_names, raises

HOSTILE = "</script><img src=x onerror=alert(1)>"
MEGABYTE = 2**20
VOID = {"meta", "img", "br", "wbr", "link", "input"}


class Outline(HTMLParser):
    """Elements, attributes and identifiers of a page; complains about elements that are not closed
    in order.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def sections(self) -> list[str | None]:
        return [attributes["id"] for tag, attributes in self.elements if tag == "section"]


def shown(number: float, digits: int = 3) -> str:
    return f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def text_of(page: str) -> str:
    return html.unescape(
        re.sub(r"<[^>]*>", "", re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
    )


def test_every_section_in_order_and_well_formed(page: str) -> None:
    expected = [name for name in TITLES if name != "response"]  # no trials were run
    assert Outline(page).sections() == expected
    assert len(page) < 3 * MEGABYTE


def test_nothing_in_the_page_runs_or_is_fetched(page: str) -> None:
    for tag, attributes in Outline(page).elements:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("src") or attributes.get("href") or "#"
        assert address.startswith(("data:image/", "#"))
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_hostile_answer_is_shown_as_text(page: str) -> None:
    assert html.escape(HOSTILE) in page
    assert HOSTILE not in page


def test_hostile_names_are_shown_as_text(job: RunDir) -> None:
    for path in job.root.iterdir():
        if path not in (job.balance, job.score_table):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    content = job.balance.read_text().replace("vqa", "<b>|x").replace("chart", "'\\\"")
    write_text(job.balance, content)
    write_text(job.score_table, job.score_table.read_text().replace("vqa", "<b>|x"))
    page = write_report(job.root).read_text()
    assert "<b>|x" not in page
    assert "<b>|x" in text_of(page)
    Outline(page)
    markdown = (job.report / "tables.md").read_text()
    assert "<b>" not in markdown
    rows = [
        line
        for line in markdown.splitlines()
        if "&lt;b&gt;\\|x" in line and line.startswith("| &lt;b&gt;")
    ]
    assert rows
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows[:1]} == {4}


def test_numbers_are_those_of_balance_json(finished: RunDir, page: str) -> None:
    page = text_of(page)
    markdown = (finished.report / "tables.md").read_text()
    content = read_json(finished.balance)
    for index, unit in enumerate(content["units"]):
        low, high = content["weight_intervals"][unit]
        weight = shown(content["weights"][unit])
        assert f"| {unit} | {weight} | [{shown(low)}, {shown(high)}] |" in markdown
        assert re.search(rf"{unit}\s*{weight}\s*\[{shown(low)}, {shown(high)}\]", page)
        for name in ("outward", "inward", "inter", "intra", "all"):
            low, high = content["part_intervals"][name][index]
            cell = f"{shown(content['parts'][name][index])} [{shown(low)}, {shown(high)}]"
            assert cell in page
            assert cell in markdown
    for giver, row in zip(content["units"], content["contribution"], strict=True):
        for receiver, value in zip(content["units"], row, strict=True):
            if giver != receiver:
                said = "not identified" if value is None else shown(value)
                assert f"{giver} → {receiver}: {said}" in page


def test_flags_and_sentences(finished: RunDir, page: str) -> None:
    page = text_of(page)
    content = read_json(finished.balance)
    assert content["flags"]
    for flag in content["flags"]:
        message = flag["message"].removeprefix(f"{flag['task']}: ").replace("`", "")
        assert message in page


def test_units_that_do_not_differ_are_counted(replicated: RunDir) -> None:
    page = text_of(write_report(replicated.root).read_text())
    content = read_json(replicated.balance)
    unclear = sum(significance(False, "1") in sentence for sentence in content["sentences"])
    assert page.count(significance(False, "1")) == unclear
    assert significance(False, "1", plural=True) in page
    assert 0 < unclear < len(content["units"])


def test_replicates_are_rows_of_the_score_matrix(replicated: RunDir) -> None:
    write_report(replicated.root)
    markdown = (replicated.report / "tables.md").read_text()
    rows = [line.split(" | ")[0] for line in markdown.splitlines() if line.startswith("| mini")]
    assert rows[:3] == ["| mini", "| mini#2", "| mini#3"]


def test_missing_and_broken_images_are_named(page: str) -> None:
    assert "data:image/png;base64," in page
    answered = [row for row in Outline(page).elements if row[1].get("class") == "no-image"]
    images = [row for row in Outline(page).elements if row[0] == "img"]
    assert answered
    assert (
        len(answered) + len(images) == 4 * 6
    )  # four examples of each of the six tasks with images


def test_only_balance(job: RunDir, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(job.balance, alone)
    page = write_report(alone).read_text()
    assert Outline(page).sections() == [
        "summary",
        "flags",
        "weights",
        "parts",
        "contribution",
        "difficulty",
    ]
    assert RunDir(alone).score_table.name in page, "the file that is missing is named"


def test_only_scores_and_balance(job: RunDir, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(job.balance, alone)
    shutil.copy(job.score_table, alone)
    sections = Outline(write_report(alone).read_text()).sections()
    assert sections == [
        "summary",
        "flags",
        "weights",
        "parts",
        "contribution",
        "difficulty",
        "scores",
    ]


def test_bare_table_has_no_intervals(job: RunDir, tmp_path: Path) -> None:
    content = read_json(job.balance)
    content |= {"intervals": None, "part_intervals": None, "weight_intervals": None, "samples": {}}
    alone = tmp_path / "alone"
    write_json(alone / "balance.json", content)
    page = write_report(alone).read_text()
    assert "whisker" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert NO_INTERVALS in text_of(page)


@pytest.mark.parametrize(
    "removed", ["final", "final/cotbal", "probes/full-ocr", "plan.json", "recipe.yaml", "probes"]
)
def test_whatever_is_missing_the_rest_is_shown(job: RunDir, removed: str) -> None:
    path = job.root / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = write_report(job.root).read_text()
    sections = Outline(page).sections()
    assert ("final" in sections) == (removed != "final")
    assert ("examples" in sections) == (removed != "probes")
    assert {"weights", "scores"} <= set(sections)


def test_before_any_run(job: RunDir) -> None:
    for path in (job.balance, job.score_table):
        path.unlink()
    shutil.rmtree(job.root / "probes")
    shutil.rmtree(job.root / "final")
    shutil.rmtree(job.root / "curve")
    page = write_report(job.root).read_text()
    assert Outline(page).sections() == ["summary", "flags", "cost", "made", "licences"]
    assert "not started" in page


def test_a_failed_run_is_shown(job: RunDir) -> None:
    probe = job.probe("full:ocr")
    probe.outcome.unlink()
    write_json(probe.failure, {"message": "out of <memory>", "log": ""})
    page = write_report(job.root).read_text()
    assert a_line_names(page, "full:ocr", "failed", "out of &lt;memory&gt;")


def test_archived_runs_are_not_shown(job: RunDir) -> None:
    shutil.copytree(job.probe("mini").root, job.root / "probes" / "mini.old-1")
    assert "old-1" not in write_report(job.root).read_text()


def test_without_a_seed_in_the_plan_the_seed_is_that_of_the_recipe(job: RunDir) -> None:
    assert write_comparison(job.root).seeds == (0,)
    job.plan.unlink()
    assert write_comparison(job.root).seeds == (0,)


def test_empty_directory(tmp_path: Path) -> None:
    with raises(RunError, "no-run-directory", tmp_path):
        write_report(tmp_path)


def test_cost_and_versions(page: str) -> None:
    page = text_of(page)
    assert re.search(r"\b1\.20 times", page)
    assert re.search(r"final: CoTBal\s*done\s*33\.9\s*21\.0\s*9\.2\s*3 ?.?012", page)
    assert re.search(r"torch\s*2\.13\.0", page)
    assert "Drawn by <b>nobody</b>, CC0." in page


def test_settings_that_greedy_answers_do_not_use_are_named_once(page: str) -> None:
    named = r"that were not used \(answers are greedy\)\s*repetition_penalty=1\.05\s"
    assert len(re.findall(named, text_of(page))) == 1


def test_recipe_is_shown_without_the_folder_of_the_data(finished: RunDir, page: str) -> None:
    assert "train: ocr_train.jsonl" in text_of(page)
    assert str(finished.root.parent) not in page


def test_reporting_does_not_import_torch() -> None:
    code = "import sys, cotbal.report; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_where_all_weights_are_1_no_change_is_credited_to_them(job: RunDir) -> None:
    balance = json.loads(job.balance.read_text())
    balance["weights"] = dict.fromkeys(balance["weights"], 1.0)
    balance["parts"]["all"] = [1.0] * len(balance["units"])
    job.balance.write_text(json.dumps(balance))
    text = text_of(write_report(job.root).read_text())
    assert SAME_TRAINING in text
    change = compare_all(read_contents(job.root)).against["cotbal"].average
    assert number(change.value, 2, signed=True) not in text.partition(SAME_TRAINING)[0]
