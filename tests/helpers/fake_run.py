"""A run directory as a real job leaves it, made of random numbers: seven balanced tasks and one
that is not.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from cotbal.balance import Settings, balance
from cotbal.balance.probes import replicate_name
from cotbal.data.files import append_jsonl, write_json, write_sealed_rows, write_text
from cotbal.jobs.rundir import RunDir
from cotbal.scores.matrix import Samples, matrix_of_samples
from cotbal.training.run_paths import RunPaths

TASKS = ("caption", "region_caption", "vqa", "relation_vqa", "chart_qa", "ocr", "grounding")
METRICS = {"caption": "cider", "region_caption": "cider", "grounding": "box_iou"}
HOSTILE = "</script><img src=x onerror=alert(1)>"
SAMPLES, TEST_SAMPLES = 120, 200
FRACTIONS, FRACTIONS_ALONE = ("1/32", "1/16", "1/8", "1/4", "1/2", "1"), ("1/32", "1/4", "1")
RECORDS = 48_000  # training records of the first task; each further one has a thousand less
STEPS = 40


def fake_run(
    directory: Path,
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
    replicates: int = 1,
    seeds: int = 1,
) -> RunDir:
    """A finished job in `directory/run`; its data lie in `directory/data`.

    Args:
        replicates: trainings of the mini probe.
        seeds: training seeds of the final models and the curve.
    """
    random = np.random.default_rng(seed)
    files = RunDir(directory / "run")
    _images(directory / "data" / "images", random)
    write_text(directory / "data" / "LICENCES.md", "# Images\nDrawn by <b>nobody</b>, CC0.\n")
    write_text(files.recipe, yaml.safe_dump(_recipe(directory / "data", tasks), sort_keys=False))
    probes = ["mini", *(f"full:{task}" for task in tasks)]
    write_json(files.plan, _plan(probes, tasks, seeds))
    samples = {task: _samples(task, tasks, random) for task in tasks}
    for row, run in enumerate(probes):
        _write_probe(files.probe(run), run, row, samples, random)
    for training in range(seeds):
        of_seed = files.seeded(training) if training else files
        for weighting in ("ew", "cotbal"):
            _write_final(of_seed.final(weighting), weighting, (*tasks, "chat"), seed, training)
        for run, seen in _fractions(tasks).items():
            _write_fraction(of_seed.curve(run), run, seen, tasks, training)
    trained = [replicate_name("mini", number) for number in range(1, replicates + 1)]
    columns = {task: _with_replicates(column, replicates) for task, column in samples.items()}
    matrix = matrix_of_samples([*trained, *probes[1:]], columns)
    write_text(files.score_table, matrix.to_csv())
    result = balance(matrix, settings=Settings(bootstrap=300))
    write_json(files.balance, result.to_json())
    write_json(files.weights, {"weights": result.weights, "tasks": {**result.weights, "chat": 1.0}})
    return files


def _recipe(data: Path, tasks: Sequence[str]) -> dict[str, Any]:
    def entry(task: str) -> dict[str, Any]:
        paths = {
            split: str(data / f"{task}_{split}.jsonl") for split in ("train", "validation", "test")
        }
        return {**paths, "metric": METRICS.get(task, "exact_match"), "balanced": task != "chat"}

    return {
        "name": "pocket",
        "images": str(data / "images"),
        "tasks": {task: entry(task) for task in (*tasks, "chat")},
        "model": {"checkpoint": str(data / "base"), "dtype": "float32"},
    }


def _plan(probes: Sequence[str], tasks: Sequence[str], seeds: int) -> dict[str, Any]:
    runs = [_planned(run, "probe", "probes", "ew") for run in probes]
    for seed in range(seeds):
        runs += [_planned(name, "final", "final", name, seed) for name in ("ew", "cotbal")]
        runs += [_planned(run, "curve", "curve", "ew", seed) for run in _fractions(tasks)]
    return {
        "form": "standard",
        "fingerprint": "abc",
        "versions": {"cotbal": "0.1.0"},
        "runs": runs,
        "probe_share": 0.15 * len(probes),
        "sizes": {task: {"full": RECORDS - 1000 * index} for index, task in enumerate(tasks)},
        "warnings": [
            f"{tasks[0]}: its mini portion holds 600 records; the paper advises 1,000 or more"
        ],
    }


def _planned(name: str, kind: str, folder: str, weighting: str, seed: int = 0) -> dict[str, Any]:
    directory = f"{folder}/{name.replace(':', '-').replace('/', '_')}"
    return {
        "name": name,
        "label": f"{name}, seed {seed}" if seed else name,
        "directory": f"seed-{seed}/{directory}" if seed else directory,
        "kind": kind,
        "weighting": weighting,
        "seed": seed,
        "portions": {},
        "records": 1937,
        "tokens": 40210,
        "share": 1.0 if kind == "final" else 0.15,
    }


def _images(folder: Path, random: np.random.Generator) -> None:
    """Eight small images; the records also name two that are missing or broken."""
    folder.mkdir(parents=True)
    for number in range(8):
        image = Image.new(
            "RGB", (96, 72 if number % 2 else 96), tuple(random.integers(150, 255, 3).tolist())
        )
        draw = ImageDraw.Draw(image)
        for _ in range(4):
            x, y = random.integers(0, 70, 2).tolist()
            draw.ellipse((x, y, x + 26, y + 26), fill=tuple(random.integers(0, 220, 3).tolist()))
        image.save(folder / f"{number}.png")
    (folder / "8.png").write_bytes(b"no image")


def _samples(task: str, tasks: Sequence[str], random: np.random.Generator) -> Samples:
    """A task of which the mini probe knows some, its own probe much, and others a little more than
    mini.
    """
    index = tasks.index(task)
    mini, own_score = 0.15 + 0.05 * (index % 4), 0.55 + 0.06 * (index % 6)
    if task == "relation_vqa":
        own_score = mini + 0.005  # its own data teach it nothing: it will be flagged
    levels = [mini] + [
        own_score if i == index else mini + random.uniform(-0.1, 0.45) * (own_score - mini)
        for i in range(len(tasks))
    ]
    luck = random.uniform(size=SAMPLES)
    values = np.stack([(luck < level).astype(float) for level in levels])
    if METRICS.get(task) == "cider":
        values *= random.uniform(1, 6, size=SAMPLES).round(2)
    clusters = np.arange(SAMPLES) // 2
    constant = (random.uniform(size=SAMPLES) < 0.1).astype(float)
    return Samples(values, clusters, 10.0 if METRICS.get(task) == "cider" else 1.0, constant, "two")


def _with_replicates(column: Samples, replicates: int) -> Samples:
    """The column with further trainings of its first row, which answer a few samples otherwise."""
    random = np.random.default_rng(replicates)
    rows = [column.values[0]]
    for _ in range(replicates - 1):
        changed = random.uniform(size=column.values.shape[1]) < 0.02
        rows.append(np.where(changed, random.permutation(column.values[0]), column.values[0]))
    return replace(column, values=np.stack([*rows, *column.values[1:]]))


def _write_probe(
    paths: RunPaths, run: str, row: int, samples: dict[str, Samples], random: np.random.Generator
) -> None:
    write_json(paths.job, {"run": run})
    _write_training(paths, list(samples), run.removeprefix("full:"), random)
    for task, column in samples.items():
        scores = column.values[row]
        write_json(paths.scores(task, "validation"), _scores(task, "validation", scores, column))
        write_sealed_rows(paths.generations(task, "validation"), _answers(task, run, scores))
    _write_outcome(paths, run)


def _write_final(
    paths: RunPaths, weighting: str, tasks: Sequence[str], seed: int, training: int
) -> None:
    write_json(paths.job, {"run": weighting})
    _write_training(paths, list(tasks), "", np.random.default_rng([seed, weighting == "cotbal"]))
    for index, task in enumerate(tasks):
        # The same luck for both models, so that their difference is paired.
        luck = np.random.default_rng([seed, index]).uniform(size=TEST_SAMPLES)
        level = 0.6 + (0.03 * (index - 2) if weighting == "cotbal" else 0.0)
        level += _moved(training, index, weighting)
        scores = (luck < level).astype(float) * (4.0 if METRICS.get(task) == "cider" else 1.0)
        column = Samples(
            scores[None],
            np.arange(TEST_SAMPLES) // 2,
            10.0 if METRICS.get(task) == "cider" else 1.0,
        )
        write_json(paths.scores(task, "test"), _scores(task, "test", scores, column))
    _write_outcome(paths, weighting)


def _moved(training: int, *of: object) -> float:
    """How far the level of a training lies from that with the first seed."""
    if not training:
        return 0.0
    return 0.01 * float(np.random.default_rng([training, *map(_number, of)]).normal())


def _number(text: object) -> int:
    return zlib.crc32(str(text).encode())


def _fractions(tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Every run of the curve, and the tasks that it was trained on."""
    mixture = {f"fraction:{fraction}": tuple(tasks) for fraction in FRACTIONS}
    return mixture | {
        f"alone:{task}:{fraction}": (task,) for task in tasks for fraction in FRACTIONS_ALONE
    }


def _write_fraction(
    paths: RunPaths, run: str, seen: Sequence[str], tasks: Sequence[str], training: int
) -> None:
    """A score that grows with the logarithm of the fraction; other tasks help a little, most where
    there is little.
    """
    write_json(paths.job, {"run": run})
    fraction = float(Fraction(run.rpartition(":")[2]))
    for task in seen:
        index = tasks.index(task)
        luck = np.random.default_rng([7, index]).uniform(
            size=SAMPLES
        )  # the same samples are easy in every run
        level = 0.75 - 0.02 * index + (0.03 + 0.02 * (index % 3)) * np.log2(fraction)
        level += 0.0 if len(seen) == 1 else 0.04 - 0.02 * fraction
        level += _moved(training, run, task)
        scores = (luck < level).astype(float) * (4.0 if METRICS.get(task) == "cider" else 1.0)
        column = Samples(
            scores[None], np.arange(SAMPLES) // 2, 10.0 if METRICS.get(task) == "cider" else 1.0
        )
        write_json(paths.scores(task, "validation"), _scores(task, "validation", scores, column))
    _write_outcome(paths, run)


def _write_training(
    paths: RunPaths, tasks: list[str], unit: str, random: np.random.Generator
) -> None:
    for step in range(1, STEPS + 1):
        depth = {task: 1.6 if unit in (task, "") else 0.9 for task in tasks}
        losses = {
            t: 2.6 - depth[t] * (1 - np.exp(-step / 12)) + 0.05 * random.normal() for t in tasks
        }
        append_jsonl(
            paths.training,
            {
                "step": 5 * step,
                "epoch": step / STEPS,
                "learning_rate": 1e-3,
                "loss": losses[tasks[0]],
                "task_losses": losses,
                "task_tokens": dict.fromkeys(tasks, 480),
                "weights": dict.fromkeys(tasks, 1.0),
            },
        )


def _scores(task: str, split: str, scores: np.ndarray, samples: Samples) -> dict[str, Any]:
    constant = samples.constant if samples.constant is not None else np.zeros_like(scores)
    entry = {
        "score": float(scores.mean()),
        "maximum": samples.maximum,
        "samples": scores.tolist(),
        "constant_answer": samples.constant_answer,
        "constant_samples": constant.tolist(),
    }
    metric = METRICS.get(task, "exact_match")
    return {
        "task": task,
        "split": split,
        "n": len(scores),
        "clusters": samples.clusters.tolist(),
        "metrics": {metric: entry},
    }


def _answers(task: str, run: str, scores: np.ndarray) -> list[dict[str, Any]]:
    wrong = HOSTILE if task == "vqa" else f"perhaps {len(run) % 3}"
    return [
        {
            "id": f"{task}_{i:06d}",
            "images": [] if task == "chart_qa" else [f"{i // 2 % 10}.png"],
            "question": f"What is {i} in this image?\nAnswer with one word & no <b>tags</b>.",
            "references": ["school", "a school"] if task == "caption" else ["school"],
            "answer": "school" if score else wrong if i % 5 else "",
        }
        for i, score in enumerate(scores.tolist())
    ]


def _write_outcome(paths: RunPaths, run: str) -> None:
    write_json(
        paths.outcome,
        {
            "run": run,
            "seconds": {"loading": 3.1, "training": 21.0, "generating": 9.2, "total": 33.9},
            "steps": 200,
            "records": 3012,
            "tokens": 40210,
            "peak_memory_mib": 812,
            "threads": 1,
            "versions": {"torch": "2.13.0"},
            "self_check": {"unit": "ocr", "predicted": 0.12, "observed": 0.12},
            "ignored_generation_settings": {"repetition_penalty": 1.05},
        },
    )
