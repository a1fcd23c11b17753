"""What can be said on one GPU in eight minutes, without network: correctness first, then speed.

    python benchmarks/gpu_check.py                             # one large GPU
    python benchmarks/gpu_check.py --device cpu --size tiny    # does the script itself work?

Prints one table. A wrong result, an error, or a part that does not end in time is a row `FAILED`,
and the exit code is then 1. Every part has its share of the minutes, and what those before it left.
Models have random weights and rows are random tokens: the figures are
about time and memory. Ratios are of runs in turn, in one process, in changing order.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from cotbal.benchmarks import pocket
from cotbal.data.batches.collate import Row as Question
from cotbal.data.batches.processors import load_processor
from cotbal.data.batches.questions import collator_for
from cotbal.data.reading.record import Record, Turn
from cotbal.loss import IGNORED, token_losses
from cotbal.recipe.schema import Generation
from cotbal.training.decoding.prefill import on_device, positions
from cotbal.training.decoding.support import obstacle
from cotbal.training.evaluation import Answerer, set_greedy
from cotbal.training.features.images import ImageFeatures
from cotbal.training.trainers.chunked_loss import Finish, Tokens, linear_head
from cotbal.training.trainers.hf import TaskWeightedTrainer, with_task_ids
from random_llava import TASKS, Size, llava, rows_of, stacked

ROUNDS = 5
QUESTIONS = 4  # on an image
LENGTH = 16  # tokens of an answer
FEATURES = 8 * 2**30  # bytes
# A token that is no likeliest one is about four deviations away; rounding moves logits by less.
GAPS = {torch.float32: 1e-3, torch.bfloat16: 0.5}
GRACE = 20.0  # seconds after the end of a part, until the process is ended
Row = tuple[str, str, str]  # what, result, unit or remark


PART = Size((64, 16, 300), 64, 128, 2, 4, 500, (32, 2, 28, 14), 4, 12, torch.float32, 4)
SIZES = {
    "tiny": PART,
    "large": Size(
        (4096, 4096, 128_256),
        4096,
        11_008,
        32,
        32,
        32_064,
        (1024, 24, 336, 14),
        8,
        128,
        torch.bfloat16,
        6,
    ),
}
PROBE = Size((0, 0, 0), 1024, 2816, 16, 16, 32_064, (256, 6, 112, 14), 8, 64, torch.float32, 12)


@dataclass(frozen=True)
class Target:
    """Where the checks run, and how large."""

    device: str
    size: Size
    probe: Size

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Seconds, and GiB above what was held before (0 on a CPU)."""
        gc.collect()
        before = 0
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else before
        return seconds, (peak - before) / 2**30


# --- The loss ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Inputs of a head, and the tokens to predict with what their losses are multiplied by."""

    rows: Tensor
    head: nn.Linear
    targets: Tensor
    factors: Tensor

    @classmethod
    def random(cls, target: Target, shape: tuple[int, int, int], dtype: torch.dtype) -> Problem:
        count, features, words = shape
        torch.manual_seed(0)
        head = nn.Linear(features, words, bias=False, device=target.device, dtype=dtype)
        rows = torch.randn(count, features, device=target.device).to(dtype)
        targets = torch.randint(0, words, (count,), device=target.device)
        factors = torch.rand(count, device=target.device) ** 2 / count
        return cls(rows.requires_grad_(), head, targets, factors)

    def in_float64(self) -> Problem:
        head = nn.Linear(*reversed(self.head.weight.shape), bias=False, device="meta")
        head.weight = nn.Parameter(self.head.weight.detach().double())
        rows = self.rows.detach().double().requires_grad_()
        return Problem(rows, head, self.targets, self.factors.double())

    def result(self, loss: Callable[[Problem], Tensor]) -> list[Tensor]:
        self.rows.grad = self.head.weight.grad = None
        value = loss(self)
        value.backward()
        gradients = [tensor.grad for tensor in (self.rows, self.head.weight)]
        return [value.detach(), *(g for g in gradients if g is not None)]


def valid_logits(problem: Problem, finish: Finish | None = None) -> Tensor:
    logits = problem.head(problem.rows)
    losses = token_losses(logits if finish is None else finish(logits), problem.targets)
    return (losses * problem.factors).sum()


def chunks(problem: Problem, finish: Finish | None = None) -> Tensor:
    tokens = Tokens(problem.targets, problem.factors, True)
    carrier, losses = linear_head(problem.rows, problem.head, finish or Finish(), tokens)
    return carrier + (losses * problem.factors).sum()


def cce(problem: Problem) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy

    losses = linear_cross_entropy(
        problem.rows, problem.head.weight, problem.targets, reduction="none"
    )
    return (losses * problem.factors).sum()


def liger(problem: Problem) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="none")
    losses = loss(problem.head.weight, problem.rows, problem.targets)
    return (losses * problem.factors).sum()


def error(actual: list[Tensor], expected: list[Tensor]) -> float:
    pairs = zip(actual, expected, strict=True)
    return max(float((a.double() - b).norm() / b.norm()) for a, b in pairs)


def require(value: float, bound: float, what: str) -> None:
    if not value <= bound:
        raise AssertionError(f"{what}: {value:.2e}, expected at most {bound:.0e}")


def loss_on_the_device(target: Target) -> Iterator[Row]:
    """Loss and gradients of the head against float64, in every dtype and form."""
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        worst = 0.0
        for finish in (Finish(), Finish(0.25), Finish(1.0, 30.0)):
            problem = Problem.random(target, (1000, 64, 2000), dtype)
            exact = problem.in_float64().result(lambda p, f=finish: valid_logits(p, f))
            for form in (valid_logits, chunks):
                result = problem.result(lambda p, f=finish, form=form: form(p, f))
                worst = max(worst, error(result, exact))
        require(worst, bound, f"loss and gradients in {dtype}")
        yield f"loss and gradients, {dtype}", f"{worst:.1e}", "worst relative error to float64"


def heads(target: Target) -> Iterator[Row]:
    """Time and memory of the head beside all logits and two libraries."""
    problem = Problem.random(target, target.size.head, target.size.dtype)
    exact = problem.in_float64().result(chunks)
    variants = {"logits of all tokens": valid_logits, "chunks": chunks}
    for name, module, loss in (
        ("Liger", "liger_kernel", liger),
        ("CCE", "cut_cross_entropy", cce),
    ):
        if target.device == "cuda" and importlib.util.find_spec(module):
            variants[name] = loss
        else:
            yield f"head: {name}", "-", "not installed, or no GPU"
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    errors = {name: error(problem.result(loss), exact) for name, loss in variants.items()}
    del exact
    for turn in range(ROUNDS):
        for name in sorted(variants, reverse=turn % 2 == 0):
            problem.rows.grad = problem.head.weight.grad = None
            measured[name].append(target.timed(lambda n=name: variants[n](problem).backward()))
    require(errors["chunks"], 2e-2, "loss and gradients of the head in chunks")
    for name, values in measured.items():
        seconds, memory = (median(column) for column in zip(*values, strict=True))
        remark = f"{memory:.2f} GiB with gradients, error {errors[name]:.1e}"
        yield f"head {target.size.head}: {name}", f"{1000 * seconds:.1f} ms", remark


# --- Trainings -----------------------------------------------------------------------------------


class Clock(TrainerCallback):
    """Seconds of every step."""

    def __init__(self, target: Target) -> None:
        self.target, self.seconds, self.started = target, list[float](), 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.target.synchronize()
        self.started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.target.synchronize()
        self.seconds.append(time.perf_counter() - self.started)


def trainer(target: Target, size: Size, model: nn.Module, ours: bool, **more: Any) -> Trainer:
    settings = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": size.rows,
        "max_steps": size.steps,
        "bf16": target.device == "cuda" and size.dtype == torch.float32,
        "report_to": "none",
        "use_cpu": target.device == "cpu",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
    }
    args = TrainingArguments(**{**settings, **more})
    count = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.max_steps
    common = {"model": model, "args": args, "train_dataset": rows_of(size, count)}
    run = Trainer(**common, data_collator=stacked) if not ours else weighted(common)
    run.remove_callback(PrinterCallback)  # the output is a table
    return run


def weighted(common: dict[str, Any]) -> Trainer:
    collator = with_task_ids(stacked, list(TASKS))
    return TaskWeightedTrainer(**common, data_collator=collator, tasks=list(TASKS), weighting=TASKS)


def updates(target: Target) -> Iterator[Row]:
    """The update of a step for two layouts, against autograd in float64; the stock trainer's."""
    size, sgd = PART, {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0}
    layouts = [{"per_device_train_batch_size": 8}, {"per_device_train_batch_size": 2}]
    layouts[1]["gradient_accumulation_steps"] = 4
    changes = []
    for ours, layout in ((True, layouts[0]), (True, layouts[1]), (False, layouts[1])):
        model = llava(size, target.device)
        before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        run = trainer(
            target, size, model, ours, bf16=False, lr_scheduler_type="constant", **sgd, **layout
        )
        run.train()
        after = [p.detach() for p in model.parameters() if p.requires_grad]
        changes.append([a.double() - b.double() for a, b in zip(before, after, strict=True)])
    exact = [gradients_in_float64(size, weights) for weights in (TASKS, dict.fromkeys(TASKS, 1.0))]
    for name, change, expected in (
        ("one micro-batch", changes[0], exact[0]),
        ("four micro-batches", changes[1], exact[0]),
        ("stock trainer, equal weights", changes[2], exact[1]),
    ):
        flat = [torch.cat([value.flatten().cpu() for value in part]) for part in (change, expected)]
        distance = float((flat[0] - flat[1]).norm() / flat[1].norm())
        require(distance, 1e-4, f"update, {name}")
        yield f"update: {name}", f"{distance:.1e}", "relative distance to float64"


def gradients_in_float64(size: Size, weights: dict[str, float]) -> list[Tensor]:
    """Eq. 2 by a plain loop over rows."""
    model = llava(size, "cpu").double()
    numerator, denominator = torch.zeros((), dtype=torch.float64), 0.0
    for row in rows_of(size, 8):
        fields = {"input_ids": row["input_ids"][None], "pixel_values": row["pixel_values"][None]}
        fields["pixel_values"] = fields["pixel_values"].double()
        logits = model(**fields).logits[0, :-1]
        targets = row["labels"][1:]
        kept, weight = targets != IGNORED, weights[row["task"]]
        numerator = numerator + weight * token_losses(logits[kept], targets[kept]).sum()
        denominator += weight * int(kept.sum())
    trained = [p for p in model.parameters() if p.requires_grad]
    return list(torch.autograd.grad(numerator / denominator, trained))


def steps(target: Target) -> Iterator[Row]:
    """Tokens per second and memory of full and LoRA steps, ours and the stock trainer's."""
    model: Any = llava(target.size, target.device)
    model.activation_checkpointing_enable({"use_reentrant": False})
    for way in ("full", "LoRA"):
        if way == "LoRA":
            config = LoraConfig(r=16, target_modules=r".*language_model.*_proj")
            model = get_peft_model(model, config)
        speeds: dict[bool, list[float]] = {True: [], False: []}
        memory = {True: 0.0, False: 0.0}
        for ours in (True, False, False, True):
            clock = Clock(target)
            run = trainer(target, target.size, model, ours, max_grad_norm=0.0, learning_rate=1e-6)
            run.add_callback(clock)
            memory[ours] = max(memory[ours], target.timed(run.train)[1])
            valid = sum(int((r["labels"] != IGNORED).sum()) for r in run.train_dataset)
            speeds[ours].append(valid / target.size.steps / median(clock.seconds[1:]))
            del run
            model.zero_grad()
        for ours, name in ((True, "cotbal"), (False, "stock Trainer")):
            remark = f"labelled tokens/s; {memory[ours]:.1f} GiB above the model"
            yield f"{way} step, {name}", f"{max(speeds[ours]):.0f}", remark
        yield f"{way} step", f"{max(speeds[False]) / max(speeds[True]):.3f}", "time, ours to stock"


# --- Answers -------------------------------------------------------------------------------------


class TokenAnswers(Answerer):
    """Answers as ids of tokens: random weights choose such as the tokenizer does not have."""

    def _texts(self, tokens: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in torch.as_tensor(tokens).tolist()]


def questions(size: Size, folder: Path, words: list[str]) -> list[Question]:
    """Questions of random words, several on every image of noise."""
    generator = random.Random(0)
    asked = []
    for image in range(2 * size.rows):
        name = f"{image}.png"
        Image.effect_noise((size.vision[2],) * 2, 60).convert("RGB").save(folder / name)
        for _ in range(QUESTIONS):
            text = " ".join(generator.choices(words, k=min(size.text, 48)))
            turns = (Turn("user", f"<image>\n{text}"), Turn("assistant", "x"))
            number = len(asked)
            record = Record(str(number), None, (name,), turns, ("x",), number + 1)
            asked.append(Question(record, "a", None))
    return asked


def answerer(target: Target, folder: Path) -> tuple[TokenAnswers, list[Question]]:
    """A model of random weights with the processor of `pocket`, which makes images as large as the
    model takes them, and questions to it.
    """
    processor: Any = load_processor(str(Path(pocket.__file__).parent / "base"), False)
    pixels, processor.patch_size = target.size.vision[2:]
    processor.image_processor.size = {"height": pixels, "width": pixels}
    processor.image_processor.crop_size = {"height": pixels, "width": pixels}
    collator = collator_for(processor, folder, 4096)
    known = processor.tokenizer.get_vocab()
    size = replace(target.size, words=max(target.size.words, len(known)))
    model: Any = llava(size, target.device).eval()
    model.config.image_token_id = collator.placeholder
    model.lm_head.weight.data[collator.placeholder] = 0  # never likeliest: an answer has no image
    set_greedy(model, collator)
    model.generation_config.eos_token_id = [size.words]  # answers of random weights never end
    if reason := obstacle(model, collator):
        raise AssertionError(f"expected a model whose questions share images; found: {reason}")
    settings = Generation(max_new_tokens=LENGTH, batch_size=size.rows * QUESTIONS)
    words = sorted(word for word in known if word.isalpha())
    return TokenAnswers(model, collator, settings, shared=True), questions(size, folder, words)


@torch.no_grad()
def largest_gap(plain: TokenAnswers, rows: list[Question], texts: list[str]) -> float:
    """How far a token of an answer is from the most likely one after the same tokens, which the
    plain model computes: the difference of logits, in standard deviations of all logits.
    """
    size, gaps = plain.settings.batch_size, list[float]()
    for start in range(0, len(rows), size):
        batch = plain.collator.prompts(rows[start : start + size])
        chosen = torch.tensor([[*map(int, text.split())] for text in texts[start : start + size]])
        mask = torch.cat([batch["attention_mask"], torch.ones_like(chosen)], 1)
        batch |= {"attention_mask": mask, "position_ids": positions(mask)}
        batch["input_ids"] = torch.cat([batch["input_ids"], chosen], 1)
        inputs = {name: on_device(plain.model, value) for name, value in batch.items()}
        logits = plain.model(**inputs, logits_to_keep=LENGTH + 1).logits[:, :-1].float()
        of_chosen = logits.gather(-1, chosen.to(logits.device)[..., None])[..., 0]
        gaps.append(float(((logits.amax(-1) - of_chosen) / logits.std(-1)).max()))
    return max(gaps)


Ways = dict[str, tuple[TokenAnswers, list[Question]]]


def timed_answers(
    target: Target, ways: Ways, made: dict[str, list[str]], speeds: dict[str, float]
) -> Iterator[Row]:
    """Answer in every way, twice in turn; the faster time counts."""
    memory: dict[str, float] = {}
    for _ in range(2):
        for name, (way, rows) in ways.items():
            texts: list[str] = []
            work = partial(way, rows, lambda _: None)
            seconds, taken = target.timed(lambda w=work, t=texts: t.extend(w()))
            made[name] = texts
            speeds[name] = max(len(rows) / seconds, speeds.get(name, 0.0))
            memory[name] = max(taken, memory.get(name, 0.0))
    for name in ways:
        yield f"answers, {name}", f"{speeds[name]:.1f}", f"per s; {memory[name]:.1f} GiB"


def answers(target: Target) -> Iterator[Row]:
    """Answers per second: `generate` with every question and its image, beside images that are
    computed once for all questions on them, without and with features that are kept.
    """
    made: dict[str, list[str]] = {}
    speeds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours, rows = answerer(target, Path(folder))
        plain, few = replace(ours, shared=False), rows[::QUESTIONS]
        single = replace(plain, settings=Generation(max_new_tokens=LENGTH, batch_size=1))
        batches = f"generate, batches of {ours.settings.batch_size}"
        ways = {
            "generate, one by one": (single, few),
            batches: (plain, rows),
            "shared images": (ours, rows),
        }
        yield from timed_answers(target, ways, made, speeds)
        problems: list[str] = []
        features = ImageFeatures(FEATURES, report=problems.append)
        features.attach(ours.model)
        if problems:
            raise AssertionError(f"expected image features to be kept; found: {problems[0]}")
        known = {"shared images, kept features": (ours, rows)}
        yield from timed_answers(target, known, made, speeds)
        features.save()
        yield "image features", problems[-1].partition(": ")[2], "in two evaluations"
        del ours.model.get_encoder(modality="image").forward  # the plain one again
        for name, texts in made.items():
            asked = few if name == "generate, one by one" else rows
            gap = largest_gap(plain, asked, texts)
            require(gap, GAPS[target.size.dtype], f"answers, {name}: distance to the likeliest")
            reference = made[batches][:: len(rows) // len(asked)]
            same = [a == b for a, b in zip(texts, reference, strict=True)]
            remark = f"as in {batches}; {gap:.1e} deviations from the likeliest token"
            yield f"answers, {name}", f"{sum(same) / len(same):.0%}", remark
    for name in ("shared images", *known):
        yield f"answers, {name}", f"{speeds[batches] / speeds[name]:.3f}", f"time, to {batches}"


# --- Processes -----------------------------------------------------------------------------------


class Kill(TrainerCallback):
    """Ends the process in the middle of a training, without warning."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def child(target: Target, folder: Path, kill_at: int | None) -> None:
    """Train a probe; write seconds per step and a sum of the weights."""
    clock = Clock(target)
    saving = {"save_strategy": "steps", "save_steps": 2, "output_dir": str(folder / "checkpoints")}
    run = trainer(target, target.probe, llava(target.probe, target.device), True, **saving)
    run.add_callback(clock)
    if kill_at is not None:
        run.add_callback(Kill(kill_at))
    (folder / "ready").touch()
    parent = os.getppid()
    while not (folder.parent / "go").exists():
        if os.getppid() != parent:
            sys.exit("the check has ended")
        time.sleep(0.05)
    checkpoints = sorted((folder / "checkpoints").glob("checkpoint-*"))
    run.train(resume_from_checkpoint=str(checkpoints[0]) if checkpoints else None)
    weights = [p.detach().double().norm().item() for p in run.model.parameters()]
    result = {
        "seconds": median(clock.seconds[1:]),
        "weights": weights,
        "resumed": bool(checkpoints),
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


Start = Callable[..., subprocess.Popen[bytes]]


@contextmanager
def trainings(target: Target) -> Iterator[Start]:
    """Starts trainings in processes, which end with this block."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True, parents=True)
        size = "tiny" if target.probe is PART else "large"
        command = [sys.executable, __file__, "--device", target.device, "--size", size]
        command += ["--child", str(folder), *more]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def results(folders: list[Path], children: list[subprocess.Popen[bytes]]) -> list[dict[str, Any]]:
    """Let children begin together, and read what they wrote."""
    while not all((folder / "ready").exists() for folder in folders):
        if any(process.poll() for process in children):
            raise RuntimeError("a training failed before it began")
        time.sleep(0.05)
    (folders[0].parent / "go").touch()
    if any(process.wait() for process in children):
        raise RuntimeError("a training failed")
    return [json.loads((folder / "result.json").read_text()) for folder in folders]


def probes(target: Target) -> Iterator[Row]:
    """Two trainings that share a device, and one that is killed and resumed."""
    with tempfile.TemporaryDirectory() as directory, trainings(target) as start:
        root = Path(directory)
        alone = root / "alone" / "a"
        (single,) = results([alone], [start(alone)])
        pair = [root / "pair" / name for name in ("a", "b")]
        both = results(pair, [start(folder) for folder in pair])
        gain = 2 * single["seconds"] / max(one["seconds"] for one in both)
        yield "two probes at once", f"{gain:.2f}", "times the steps per second of one"
        killed = root / "killed" / "a"
        process = start(killed, "--kill-at", "3")
        (root / "killed" / "go").touch()
        if process.wait() != -signal.SIGKILL:
            raise AssertionError("expected the training to be killed")
        (resumed,) = results([killed], [start(killed)])
        pairs = zip(resumed["weights"], single["weights"], strict=True)
        distance = max(abs(a - b) / max(b, 1e-12) for a, b in pairs)
        if not resumed["resumed"]:
            raise AssertionError("expected a checkpoint to resume from")
        require(distance, 1e-4, "weights after a kill, against an uninterrupted training")
        yield "resumed after a kill", f"{distance:.1e}", "largest relative change of a norm"


Part = Callable[[Target], Iterator[Row]]
# Shares of the minutes.
CHECKS: dict[Part, float] = {
    loss_on_the_device: 0.5,
    updates: 1.0,
    heads: 1.0,
    steps: 2.5,
    answers: 1.5,
    probes: 1.5,
}


class Late(BaseException):
    """The time of a part is over; no exception that libraries handle."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise `Late` in this block after so many seconds. If it does not return to Python by then, as
    in a kernel that hangs, the process ends.
    """

    def late(*_: object) -> None:
        raise Late(f"not done within its {seconds:.0f} s")

    last = threading.Timer(seconds + GRACE, give_up)
    last.daemon = True
    last.start()
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        last.cancel()


def give_up() -> None:
    print("| the check | FAILED | a part did not end |", flush=True)
    os._exit(1)


def described(target: Target) -> str:
    packages = ("torch", "transformers", "trl", "peft", "liger-kernel", "cut-cross-entropy")
    versions = []
    for name in packages:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    device = torch.cuda.get_device_name() if target.device == "cuda" else platform.machine()
    return f"{device}; Python {platform.python_version()}; {', '.join(versions)}"


def check(target: Target, minutes: float) -> int:
    """Print the table; the number of failures."""
    print(described(target), "\n\n| what | result | |\n|---|---|---|", flush=True)
    begun, failures, share = time.monotonic(), 0, 0.0
    for part, own_share in CHECKS.items():
        started = time.monotonic()
        share += own_share / sum(CHECKS.values())
        left = begun + 60 * minutes * share - started
        try:
            if left <= 0:
                raise Late("not run: its time is over")
            with deadline(left):
                for row in part(target):
                    print("|", " | ".join(row), "|", flush=True)
        except (Exception, Late) as problem:
            failures += 1
            traceback.print_exc()
            print(f"| {part.__name__} | FAILED | {str(problem).splitlines()[:1]} |", flush=True)
        print(f"| {part.__name__} | {time.monotonic() - started:.0f} s | |", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="large")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="after which all parts have ended"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kill-at", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device; `--device cpu --size tiny` tries the script itself")
    target = Target(options.device, SIZES[options.size], PART if options.size == "tiny" else PROBE)
    if options.child:
        child(target, options.child, options.kill_at)
    elif failures := check(target, options.minutes):
        sys.exit(f"{failures} of {len(CHECKS)} parts failed")


if __name__ == "__main__":
    main()
