from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from cotbal.data.files import write_sealed_rows
from cotbal.jobs.rundir import RunDir
from cotbal.report.contents import read_contents
from cotbal.report.examples import LIMIT, SIDE, choose, data_uri, examples


def test_samples_where_runs_disagree_come_first_and_share_no_image() -> None:
    values = np.array([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1]], dtype=float)
    assert choose(values, np.array([0, 1, 1, 2, 3]), 2) == [1, 0]  # 2 shows the image of 1


def test_answers_are_grouped_with_a_verdict(finished: RunDir) -> None:
    shown = examples(read_contents(finished.root))
    assert list(shown) == [
        "caption",
        "region_caption",
        "vqa",
        "relation_vqa",
        "chart_qa",
        "ocr",
        "grounding",
    ]
    for example in shown["ocr"]:
        runs = [run for answer in example.answers for run in answer.runs]
        assert len(runs) == len(set(runs)) == 8
        verdicts = {(a.text == "school", a.verdict) for a in example.answers}
        assert verdicts == {(True, "right"), (False, "wrong")}
    assert shown["caption"][0].answers[0].verdict.endswith("of 10")
    assert shown["caption"][0].references == ("school", "a school")
    assert all(example.images == () for example in shown["chart_qa"])


def test_images_are_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    address = data_uri(tmp_path / "noise.png")
    assert address is not None
    content = base64.b64decode(address.partition(",")[2])
    assert len(content) <= LIMIT
    with Image.open(io.BytesIO(content)) as image:
        assert max(image.size) == SIDE


def test_images_of_16_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "depth.png")
    address = data_uri(tmp_path / "depth.png")
    assert address is not None
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        assert [image.convert("L").getpixel((x, 0)) for x in (0, 1)] == [0, 255]


def test_transparent_drawings_lie_on_white(tmp_path: Path) -> None:
    Image.new("LA", (20, 20), (0, 0)).save(tmp_path / "clear.png")
    address = data_uri(tmp_path / "clear.png")
    assert address is not None
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        assert image.getpixel((3, 3)) == (255, 255, 255)


def test_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (60, 60)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    for name in ("text.png", "cut.png", "absent.png", "."):
        assert data_uri(tmp_path / name) is None


def test_images_from_elsewhere_are_not_in_the_report(job: RunDir) -> None:
    recipe = yaml.safe_load(job.recipe.read_text())
    secret = job.root.parent / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    Path(recipe["images"]).mkdir(parents=True, exist_ok=True)
    for answers in job.root.glob("**/generations/ocr.validation.jsonl"):
        rows = [json.loads(line) for line in answers.read_text().splitlines()]
        for row in rows:
            row["images"] = [str(secret)]
        write_sealed_rows(answers, rows)
    assert {example.images for example in examples(read_contents(job.root))["ocr"]} == {(None,)}
    job.recipe.write_text(yaml.safe_dump({**recipe, "outside_images": "allow"}))
    ((image,),) = {example.images for example in examples(read_contents(job.root))["ocr"]}
    assert image is not None
