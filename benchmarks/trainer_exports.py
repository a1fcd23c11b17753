"""Do exported weights act in the trainers as cotbal's loss says? Two steps of each trainer's own trainer,
on a CPU.

    python benchmarks/trainer_exports.py --swift PYTHON --llamafactory PYTHON --trl PYTHON --axolotl
    PYTHON [--keep DIR]

Each PYTHON is the interpreter of an environment with that trainer (ms-swift 4.6.0; llamafactory 0.9.5;
trl 1.16.0; axolotl 0.19.0); leave one out to leave it out. A LLaVA with a few thousand random
weights is fine-tuned by plain SGD on the rows that `cotbal export` writes, every record in every
step, in micro-batches of two. A recorder inside the trainer's process keeps the micro-batches that its
trainer really sees; from them, the base and `cotbal.loss`, the update is predicted and held against
the checkpoint that the trainer saved: `|trainer - predicted| / |predicted|`, over all trained parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaForConditionalGeneration,
)

import cotbal.benchmarks.pocket
from cotbal.export import Order, export
from cotbal.jobs.rundir import RunDir
from cotbal.loss import (
    predicting,
    token_counts,
    token_level,
    token_losses,
    token_tasks,
    weighted_sum,
)
from cotbal.recipe.recipe import load_recipe

POCKET = Path(cotbal.benchmarks.pocket.__file__).parent / "base"
WEIGHTS = {"hue": 0.5, "paint": 0.9, "talk": 1.6}
RECORDS, MICRO, STEPS, RATE = 8, 2, 2, 0.05
TASKS = list(WEIGHTS)
ONES = dict.fromkeys(TASKS, 1.0)
Batches = list[dict[str, Any]]
TokenWeights = Callable[[dict[str, Any]], Tensor]

RECORDER = """
import os, torch
from {module} import {trainer} as Trainer

seen, compute = [], Trainer.compute_loss

def compute_loss(self, model, inputs, *arguments, **options):
    if model.training:
        seen.append({{k: v.detach().clone() if torch.is_tensor(v) else v for k, v in inputs.items()
                     if torch.is_tensor(v) or k == "channel"}})
        torch.save(seen, os.environ["SEEN"])
    return compute(self, model, inputs, *arguments, **options)

Trainer.compute_loss = compute_loss
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    for trainer in ("swift", "llamafactory", "trl", "axolotl"):
        parser.add_argument(f"--{trainer}")
    parser.add_argument("--keep")
    chosen = parser.parse_args()
    root = Path(chosen.keep or tempfile.mkdtemp()).resolve()
    bench = Bench(root, write_mixture(root / "mixture"))
    rows: list[str] = []
    for trainer, run in (
        ("swift", swift),
        ("trl", trl),
        ("llamafactory", llamafactory),
        ("axolotl", axolotl),
    ):
        if getattr(chosen, trainer):
            print(versions(getattr(chosen, trainer), trainer), flush=True)
            for line in run(bench, getattr(chosen, trainer)):
                print(line, flush=True)
                rows.append(line)
    print(
        "\n| trainer | what it was given | compared with the update of | relative difference"
        " |\n|---|---|---|---|"
    )
    print("\n".join(rows))


@dataclass(frozen=True)
class Bench:
    """Where everything lies."""

    root: Path
    recipe: Path

    def exported(
        self, trainer: str, name: str, weights: Mapping[str, float], *overrides: str
    ) -> Path:
        """An export under `name`."""
        file = self.root / f"{name}.json"
        file.write_text(json.dumps({"weights": weights}))
        out = self.root / name
        export(
            Order(load_recipe(self.recipe, overrides), RunDir(self.root / "run"), file),
            trainer,
            out,
        )
        return out

    @property
    def base(self) -> Path:
        return self.recipe.parent / "base"


def write_mixture(folder: Path) -> Path:
    """Three tasks: one word about an image, three words about an image, and two turns of text
    alone.
    """
    (folder / "images").mkdir(parents=True)
    colours = ("red", "green", "blue", "yellow")
    for colour in colours:
        Image.new("RGB", (48, 48), colour).save(folder / "images" / f"{colour}.png")
    for task in TASKS:
        records = [json.dumps(record(task, i, colours[i % 4])) for i in range(RECORDS)]
        for split in ("train", "validation"):
            (folder / f"{task}_{split}.jsonl").write_text(
                "\n".join(records[: None if split == "train" else 1]) + "\n"
            )
    first_turn = json.dumps(record("hue", 0, "red"))
    (folder / "talk_validation.jsonl").write_text(first_turn + "\n")
    config = AutoConfig.from_pretrained(POCKET)
    for part in (config.text_config, config.vision_config):
        (
            part.hidden_size,
            part.intermediate_size,
            part.num_attention_heads,
            part.num_hidden_layers,
        ) = (16, 32, 2, 2)
    config.text_config.num_key_value_heads, config.text_config.head_dim = 2, 8
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).save_pretrained(folder / "base")
    AutoProcessor.from_pretrained(POCKET).save_pretrained(folder / "base")
    content = {
        "name": "trainers",
        "images": "images",
        "tasks": {
            t: {"train": f"{t}_train.jsonl", "validation": f"{t}_validation.jsonl"} for t in TASKS
        },
        "model": {"checkpoint": "base", "dtype": "float32", "max_length": 400},
        "optimization": {
            "epochs": STEPS,
            "batch_size": RECORDS * len(TASKS),
            "micro_batch_size": MICRO,
            "learning_rate": RATE,
            "schedule": "constant",
            "warmup_ratio": 0.0,
            "max_grad_norm": 1e9,
        },
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "recipe.yaml"


def record(task: str, i: int, colour: str) -> dict[str, Any]:
    asked, said = (
        f"Which color has {task} {i}?",
        " ".join([colour] * (3 if task == "paint" else 1)),
    )
    turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": said}]
    if task == "talk":
        turns += [
            {"from": "human", "value": f"And the next color {task}?"},
            {"from": "gpt", "value": f"{colour} too"},
        ]
        return {"id": f"{task}{i}", "conversations": turns}
    turns[0]["value"] = f"<image>\n{asked}"
    return {"id": f"{task}{i}", "image": f"{colour}.png", "conversations": turns}


def swift(bench: Bench, python: str) -> Iterator[str]:
    """ms-swift: every message has its weight. One process for all cases, those without the plugin
    first.
    """
    equal = bench.exported("ms-swift", "swift_equal", ONES)
    weighted = bench.exported("ms-swift", "swift_weighted", WEIGHTS)
    rows = (weighted / "train.jsonl").read_text().splitlines()
    (weighted / "text.jsonl").write_text(
        "".join(row + "\n" for row in rows if "<image>" not in row)
    )
    (weighted / "nothing.py").touch()
    bare = ("--external_plugins", "nothing.py")
    text = ("--dataset", "text.jsonl", "--gradient_accumulation_steps", str(RECORDS // MICRO))
    cases = {
        "no_plugin": (weighted, bare),
        "text_no_plugin": (weighted, (*text, *bare)),
        "no_flag": (weighted, ("--is_binary_loss_scale", "true")),
        "ew": (equal, ()),
        "weighted": (weighted, ()),
        "text": (weighted, text),
    }
    results = run_swift(bench, python, cases)
    scales = yaml_weights(weighted)
    yield line("ms-swift", "weights 1", "weights 1", difference(bench, *results["ew"], ONES))
    for name, what in (
        ("weighted", "weights w"),
        ("no_flag", "weights w, `is_binary_loss_scale: true` (its default)"),
    ):
        for label, weights in (("weights w", scales), ("weights 1", ONES)):
            yield line("ms-swift", what, label, difference(bench, *results[name], weights))
    yield line(
        "ms-swift",
        "talk (text) alone, weight w",
        "weights w",
        difference(bench, *results["text"], scales),
    )
    for name, what in (
        ("no_plugin", "weights w, no plugin"),
        ("text_no_plugin", "talk alone, weight w, no plugin"),
    ):
        yield line("ms-swift", what, "weights w", difference(bench, *results[name], scales))
        words = difference(bench, *results[name], scales, ends(bench, scales))
        yield line("ms-swift", what, "w on words, 1 on what ends a turn", words)


SWIFT = """
import json, os, sys
import swift.trainers
from swift.cli.main import parse_yaml_args
from swift.pipelines import sft_main

for case in json.load(open(sys.argv[1])):
    os.chdir(case["folder"])
    os.environ["SEEN"] = case["seen"]
    seen.clear()
    argv = ["train.yaml", *case["argv"]]
    parse_yaml_args(argv)
    sft_main(argv)
"""


def run_swift(
    bench: Bench, python: str, cases: Mapping[str, tuple[Path, tuple[str, ...]]]
) -> dict[str, tuple[Batches, dict[str, Tensor]]]:
    """The outcome of every case."""
    common = [
        "--optim",
        "sgd",
        "--model_type",
        "llava1_5_hf",
        "--max_steps",
        STEPS,
        "--save_strategy",
        "steps",
        "--save_steps",
        STEPS,
        "--add_version",
        "false",
        "--save_only_model",
        "true",
        "--report_to",
        "none",
        "--dataloader_num_workers",
        0,
        "--dataset_num_proc",
        1,
        "--use_hf",
        "true",
    ]
    plan = []
    for name, (folder, argv) in cases.items():
        output = ("--output_dir", bench.root / f"swift-{name}")
        seen = str(bench.root / f"swift-{name}.pt")
        plan.append(
            {"folder": str(folder), "seen": seen, "argv": list(map(str, (*common, *output, *argv)))}
        )
    (bench.root / "cases.json").write_text(json.dumps(plan))
    recorder = RECORDER.format(module="swift.trainers", trainer="Seq2SeqTrainer")
    (bench.root / "swift_cases.py").write_text(recorder + SWIFT)
    call([python, "swift_cases.py", "cases.json"], bench.root, bench.root / "unused.pt")
    return {
        name: outcome(
            bench.root / f"swift-{name}.pt",
            next((bench.root / f"swift-{name}").glob("checkpoint-*")),
        )
        for name in cases
    }


def yaml_weights(folder: Path) -> dict[str, float]:
    return {row["channel"]: row["messages"][-1]["loss_scale"] for row in rows_of(folder)}


def ends(bench: Bench, scales: Mapping[str, float]) -> TokenWeights:
    """Weight of every supervised token when the words have the task's and the ends of turns
    (`</s>`) keep 1.
    """
    tokenizer = AutoProcessor.from_pretrained(bench.base).tokenizer
    end = tokenizer.encode("</s>", add_special_tokens=False)

    def weigh(batch: dict[str, Any]) -> Tensor:
        weights_of_tokens = []
        for row, task in zip(batch["labels"].tolist(), batch["channel"], strict=True):
            marks = [0.0 if label == -100 else scales[task] for label in row]
            for start in range(len(row) - len(end) + 1):
                if row[start : start + len(end)] == end:
                    marks[start : start + len(end)] = [1.0] * len(end)
            weights_of_tokens += [
                mark for mark, label in zip(marks[1:], row[1:], strict=True) if label != -100
            ]
        return torch.tensor(weights_of_tokens)

    return weigh


def trl(bench: Bench, python: str) -> Iterator[str]:
    """TRL: rows are repeated; its own loss is that of equal weights on what it is shown."""
    folder = bench.exported("trl", "trl_weighted", WEIGHTS)
    script = (folder / "train.py").read_text()
    rows = len((folder / "train.jsonl").read_text().splitlines())
    changes = (
        "ARGUMENTS |= {'optim': 'sgd', 'save_strategy': 'no', 'report_to': 'none', 'max_steps':"
        f" {STEPS}, "
    )
    changes += f"'gradient_accumulation_steps': {-(-rows // MICRO)}}}\n\nrows ="
    recorder = RECORDER.format(module="trl", trainer="SFTTrainer")
    (folder / "recorded.py").write_text(recorder + script.replace("rows =", changes, 1))
    seen = bench.root / "trl.pt"
    call([python, "recorded.py"], folder, seen)
    batches, trained = outcome(seen, folder / "output")
    label = f"{rows} rows for {RECORDS * len(TASKS)} records"
    yield line(
        "TRL",
        label,
        "equal weights on these rows, mean over tokens",
        difference(bench, batches, trained, ONES, frozen=False),
    )


def llamafactory(bench: Bench, python: str) -> Iterator[str]:
    """LLaMA-Factory: rows are repeated; means over micro-batches of means over tokens."""
    folder = bench.exported("llamafactory", "llamafactory_weighted", WEIGHTS)
    rows = len((folder / "train.jsonl").read_text().splitlines())
    changes = {
        "template": "llava",
        "optim": "sgd",
        "save_strategy": "no",
        "report_to": "none",
        "max_steps": STEPS,
        "gradient_accumulation_steps": -(-rows // MICRO),
        "preprocessing_num_workers": 1,
    }
    (folder / "recorded.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((folder / "train.yaml").read_text()) | changes)
    )
    (folder / "torchaudio.py").touch()  # which LLaMA-Factory imports whether there is sound or not
    recorder = RECORDER.format(
        module="llamafactory.train.sft.trainer", trainer="CustomSeq2SeqTrainer"
    )
    (folder / "recorded.py").write_text(
        f"{recorder}\nfrom llamafactory.train.tuner import run_exp\n\nrun_exp()\n"
    )
    seen = bench.root / "llamafactory.pt"
    call([python, "recorded.py", "recorded.yaml"], folder, seen)
    batches, trained = outcome(seen, folder / "output")
    label = f"{rows} rows for {RECORDS * len(TASKS)} records"
    yield line(
        "LLaMA-Factory",
        label,
        "equal weights on these rows, mean over tokens",
        difference(bench, batches, trained, ONES),
    )
    yield line(
        "LLaMA-Factory",
        label,
        "equal weights on these rows, mean over micro-batches",
        difference(bench, batches, trained, ONES, micro_means(batches)),
    )


REPAIR = """
import axolotl.processing_strategies as strategies

resolve = strategies._resolve_role_boundary_override
strategies._resolve_role_boundary_override = lambda specs, tokenizer: resolve(list(map(dict, specs)), tokenizer)
"""

TEXT = """
import json, sys
from axolotl.prompt_strategies.chat_template import load
from axolotl.utils.dict import DictDefault
from transformers import AutoProcessor

template = {"chat_template": "tokenizer_default"}
tokenizer = AutoProcessor.from_pretrained(sys.argv[1]).tokenizer
strategy = load(tokenizer, DictDefault({"sequence_len": 400, **template}), ds_cfg={"type": "chat_template", **template})

def labels(**weight):
    asked = {"role": "user", "content": [{"type": "text", "text": "Which color has hue 1?"}]}
    said = {"role": "assistant", "content": [{"type": "text", "text": "green", **weight}]}
    return strategy.tokenize_prompt({"messages": [asked, said]})["labels"]

found = {str(w): "the same" if labels(weight=w) == labels() else "others" for w in (0.0, 0.5, 1.6)}
json.dump(found, open("text.json", "w"))
"""


def axolotl(bench: Bench, python: str) -> Iterator[str]:
    """axolotl: rows are repeated; and what a `weight` on them would do."""
    pad_right(bench.base)
    for name, weights in (("ew", ONES), ("weighted", WEIGHTS)):
        folder = bench.exported("axolotl", f"axolotl_{name}", weights)
        for answers in (False, True):
            batches, trained = run_axolotl(bench, python, folder, answers)
            with_loss = sum(int(predicting(batch["labels"]).sum()) for batch in batches) // STEPS
            label = (
                f"{len(rows_of(folder))} rows for {RECORDS * len(TASKS)} records, {with_loss}"
                " tokens"
            )
            label += (
                " of answers, `role_boundaries` repaired" if answers else " of prompts and answers"
            )
            for what, weigh in (("tokens", None), ("micro-batches", micro_means(batches))):
                measured_difference = difference(bench, batches, trained, ONES, weigh, frozen=False)
                yield line(
                    "axolotl",
                    label,
                    f"equal weights on these rows, mean over {what}",
                    measured_difference,
                )
    for weight in (0.0, 1.6):
        folder = bench.exported("axolotl", f"axolotl_part_{weight}", ONES)
        rows = rows_of(folder)
        for row in rows:
            row["messages"][-1]["content"][0]["weight"] = weight
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        batches, trained = run_axolotl(bench, python, folder, answers=True)
        measured_difference = difference(
            bench, batches, trained, ONES, micro_means(batches), frozen=False
        )
        label = (
            f"equal weights, and `weight: {weight}` on the last answer of every row,"
            " `role_boundaries` repaired"
        )
        yield line(
            "axolotl",
            label,
            "equal weights on these rows, mean over micro-batches",
            measured_difference,
        )
    (bench.root / "text.py").write_text(TEXT)
    call([python, "text.py", str(bench.base)], bench.root, bench.root / "unused.pt")
    trained_on = json.loads((bench.root / "text.json").read_text())
    for weight, same in trained_on.items():
        yield line(
            "axolotl", f"text alone, `weight: {weight}` on an answer", "labels without weight", same
        )


def pad_right(base: Path) -> None:
    """Beside a row with images, a shorter row's first token would be guessed from padding, which
    nothing defines.
    """
    file = base / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "right"}))


def run_axolotl(
    bench: Bench, python: str, folder: Path, answers: bool
) -> tuple[Batches, dict[str, Tensor]]:
    """By the function of its own command; on answers alone only after a repair, since its 0.19.0
    fails there.
    """
    changes: dict[str, Any] = {
        "chat_template": "tokenizer_default",
        "optimizer": "sgd",
        "max_steps": STEPS,
        "save_strategy": "no",
        "gradient_accumulation_steps": -(-len(rows_of(folder)) // MICRO),
        "dataset_num_proc": 1,
    }
    if answers:
        changes["role_boundaries"] = [
            {"role": "assistant", "start": "<|assistant|>", "end": "<|end|>"}
        ]
    (folder / "recorded.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((folder / "train.yaml").read_text()) | changes)
    )
    recorder = RECORDER.format(module="axolotl.core.trainers.base", trainer="AxolotlTrainer")
    entry = "\nfrom axolotl.cli.train import do_cli\n\ndo_cli(config='recorded.yaml')\n"
    (folder / "recorded.py").write_text(recorder + (REPAIR if answers else "") + entry)
    seen = bench.root / f"{folder.name}.pt"
    call([python, "recorded.py"], folder, seen)
    return outcome(seen, folder / "output")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, (folder / "train.jsonl").read_text().splitlines()))


def micro_means(batches: Batches) -> TokenWeights:
    """Weight of a token when every micro-batch of a step counts the same."""
    per_step = len(batches) // STEPS
    total = sum(int(predicting(batch["labels"]).sum()) for batch in batches[:per_step])

    def weigh(batch: dict[str, Any]) -> Tensor:
        here = int(predicting(batch["labels"]).sum())
        return torch.full((here,), total / (per_step * here))

    return weigh


def call(argv: list[str], folder: Path, seen: Path) -> None:
    offline = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "SEEN": str(seen),
        "CUDA_VISIBLE_DEVICES": "",
        "USE_HF": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | offline
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(argv)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")


def outcome(seen: Path, checkpoint: Path) -> tuple[Batches, dict[str, Tensor]]:
    """The micro-batches that the trainer saw, and the parameters that it ended with."""
    trained = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    return torch.load(seen), dict(trained.state_dict())


def difference(
    bench: Bench,
    batches: Batches,
    trained: Mapping[str, Tensor],
    weights: Mapping[str, float],
    token_weights: TokenWeights | None = None,
    frozen: bool = True,
) -> str:
    """How far the trainer's update is from the one that `sum_t c_t S_t` predicts, with `c_t = w_t /
    sum n`.
    """
    model = AutoModelForImageTextToText.from_pretrained(bench.base, dtype=torch.float32).train()
    if frozen:
        model.model.vision_tower.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], RATE)
    per_step = len(batches) // STEPS
    for step in range(STEPS):
        descend(model, batches[step * per_step : (step + 1) * per_step], weights, token_weights)
        optimizer.step()
        optimizer.zero_grad()
    now = model.state_dict()
    trainer = torch.cat([(trained[name] - before[name]).flatten() for name in before])
    ours = torch.cat([(now[name] - before[name]).flatten() for name in before])
    return f"{float((trainer - ours).norm() / ours.norm()):.1e}"


def descend(
    model: Any, batches: Batches, weights: Mapping[str, float], token_weights: TokenWeights | None
) -> None:
    """The gradient of one optimizer step, added up over its micro-batches."""
    values = torch.tensor([weights[task] for task in TASKS])
    tasks = [torch.tensor([TASKS.index(task) for task in names(model, batch)]) for batch in batches]
    counts = sum(
        token_counts(b["labels"], t, len(TASKS)) for b, t in zip(batches, tasks, strict=True)
    )
    coefficients = token_level(counts, values, "tokens")
    for batch, task_ids in zip(batches, tasks, strict=True):
        fields = {
            k: batch[k]
            for k in ("input_ids", "attention_mask", "pixel_values")
            if batch.get(k) is not None
        }
        logits = model(**fields).logits[:, -batch["labels"].shape[1] :][predicting(batch["labels"])]
        targets = batch["labels"][:, 1:][batch["labels"][:, 1:] != -100]
        losses = token_losses(logits, targets)
        if token_weights is None:
            weighted_sum(losses, token_tasks(batch["labels"], task_ids), coefficients).backward()
        else:
            ((losses * token_weights(batch)).sum() / counts.sum()).backward()


def names(model: Any, batch: dict[str, Any]) -> list[str]:
    """Task of every row, from the question in it."""
    tokenizer = AutoProcessor.from_pretrained(model.name_or_path).tokenizer
    texts = tokenizer.batch_decode(batch["input_ids"])
    return [re.findall("|".join(TASKS), text)[0] for text in texts]


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def versions(python: str, trainer: str) -> str:
    package = {"swift": "ms-swift"}.get(trainer, trainer)
    names = (package, "transformers", "torch")
    code = (
        "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in"
        f" {names}))"
    )
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
