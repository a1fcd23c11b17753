"""Alignment of the fresh projector: vision and language stay frozen, so the image features are
computed once.

First every image token of a thing is drawn to the word embeddings of its name (no language model
needed, seconds); then the projector learns to make the language model say captions.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cotbal.benchmarks.stamps import build_world
from cotbal.benchmarks.stamps.base import IMAGE_TOKEN, IMAGE_TOKENS, STRIDE
from cotbal.benchmarks.stamps.packages import MIXTURE_PACKAGES, provide
from cotbal.benchmarks.stamps.scenes import SIDE, Box
from cotbal.benchmarks.stamps.sights import SECONDS_BETWEEN_LINES, Shown, drafts, look
from cotbal.benchmarks.stamps.tasks import World

Report = Callable[[str], None]
QUESTION = "What is in the picture?"
WORD_EPOCHS, WORD_BATCH, WORD_RATE = 8, 576, 1e-3
CAPTION_BATCH, CAPTION_RATE = 16, 1e-3
TEMPERATURE = 0.07
PROBES = 100
# how often each kind of image is shown
SHARES = {"portrait": 4, "pair": 3, "chart": 2, "sign": 2}
KINDS = tuple(chain.from_iterable([kind] * share for kind, share in SHARES.items()))
KEEP_EVERY = 25


def align(
    assembled: Path, target: Path, cache: Path, *, captions: int, seed: int, report: Report
) -> None:
    """Train the projector of the checkpoint `assembled` and write the whole checkpoint to
    `target`."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.manual_seed(seed)
    processor = AutoProcessor.from_pretrained(assembled)
    model = AutoModelForImageTextToText.from_pretrained(assembled, dtype=torch.float32).eval()
    model.requires_grad_(False)
    world = align_world(cache, seed, report)
    train = look(model, processor, drafts(world, "train", captions, seed, KINDS), report)
    probes = drafts(world, "validation", PROBES, seed, ("portrait",))
    held_out = look(model, processor, probes, report)
    projector = model.model.multi_modal_projector.float().requires_grad_(True)
    scores = {}

    def score(stage: str) -> None:
        scores[stage] = names_right(model, processor, held_out)
        report(f"names right on held-out grounds, {stage}: {scores[stage]:.3f}")

    whiten(projector, train)
    score("fresh projector")
    learn_words(model, processor, train, report)
    score("after words")
    state = cache / "alignment.pt"
    learn_captions(model, processor, train, seed=seed, state=state, report=report)
    score("after captions")
    write_checkpoint(assembled, target, projector, scores)
    state.unlink(missing_ok=True)


def align_world(cache: Path, seed: int, report: Report) -> World:
    """The images of the mixture; only its training things and grounds are used for learning."""
    sources = {package.name: provide(package, cache, report) for package in MIXTURE_PACKAGES}
    return build_world(sources, cache / "photos", seed)[0]


def whiten(projector: nn.Module, train: list[Shown]) -> None:
    """Fold the mean and spread of every feature channel into the first layer: ReLU6 features are
    mostly zero.
    """
    features = torch.stack([shown.features.float() for shown in train[:500]]).flatten(0, 1)
    mean, spread = features.mean(0), features.std(0) + 0.05
    first: Any = projector.linear_1
    with torch.no_grad():
        first.weight.normal_(0.0, features.shape[1] ** -0.5)
        first.weight /= spread
        first.bias.copy_(-(first.weight @ mean))


def learn_words(model: Any, processor: Any, train: list[Shown], report: Report) -> None:
    """Draw the image tokens inside the box of a thing to the mean word embedding of its name.

    The loss is a classification over all names (by cosine) plus the squared distance, which sets
    the length right.
    """
    boxes = chain.from_iterable(shown.names for shown in train)
    names = sorted({name for name, _ in boxes})
    words = name_embeddings(model, processor, names)
    tokens, targets = covered_tokens(train, names)
    projector = model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(projector.parameters(), lr=WORD_RATE, weight_decay=0.05)
    for epoch in range(WORD_EPOCHS):
        total = 0.0
        for rows in torch.split(torch.randperm(len(tokens)), WORD_BATCH):
            loss = word_loss(projector(tokens[rows].float()), words, targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        for group in optimizer.param_groups:
            group["lr"] = WORD_RATE * (1 - (epoch + 1) / WORD_EPOCHS)
        report(f"words: epoch {epoch + 1} of {WORD_EPOCHS}, loss {total / len(tokens):.3f}")


def word_loss(projected: Tensor, words: Tensor, targets: Tensor) -> Any:
    """Cross-entropy over names by cosine similarity, plus the mean squared distance in units of the
    words' variance.
    """
    directions = functional.normalize(projected, dim=-1)
    word_directions = functional.normalize(words, dim=-1)
    cosine = directions @ word_directions.T
    distance = functional.mse_loss(projected, words[targets]) / words.var()
    return functional.cross_entropy(cosine / TEMPERATURE, targets) + distance


def name_embeddings(model: Any, processor: Any, names: list[str]) -> Tensor:
    """The mean input embedding of the tokens of each name, [names, hidden]."""
    table = model.get_input_embeddings().weight.float()
    means = []
    for name in names:
        encoded = processor.tokenizer(" " + name, add_special_tokens=False)
        means.append(table[encoded["input_ids"]].mean(0))
    return torch.stack(means).detach()


def covered_tokens(train: list[Shown], names: list[str]) -> tuple[Tensor, Tensor]:
    """The features of all image tokens whose centre lies in the box of a thing, and the index of
    its name.
    """
    numbers = {name: number for number, name in enumerate(names)}
    tokens = []
    targets: list[int] = []
    for shown in train:
        for name, box in shown.names:
            inside = [token for token in range(IMAGE_TOKENS) if centre_in(token, box)]
            tokens.append(shown.features[inside])
            targets += [numbers[name]] * len(inside)
    return torch.cat(tokens), torch.tensor(targets)


def centre_in(token: int, box: Box) -> bool:
    """Whether the centre of an image token (counted row by row) lies in a box of hundredths."""
    across = SIDE // STRIDE
    row, column = divmod(token, across)
    x = 100 * (column + 0.5) / across
    y = 100 * (row + 0.5) / across
    left, top, right, bottom = box
    return left <= x <= right and top <= y <= bottom


def learn_captions(
    model: Any, processor: Any, train: list[Shown], *, seed: int, state: Path, report: Report
) -> None:
    """One pass over the scenes: next-token loss of the caption after the projected image.

    The state is kept in the file `state` every KEEP_EVERY steps; an interrupted alignment resumes
    from it.
    """
    order = list(range(len(train)))
    random.Random(seed).shuffle(order)
    starts = range(0, len(order), CAPTION_BATCH)
    batches = [order[start : start + CAPTION_BATCH] for start in starts]
    projector = model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(projector.parameters(), lr=CAPTION_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, CAPTION_RATE, total_steps=len(batches)
    )
    parts = {"projector": projector, "optimizer": optimizer, "schedule": schedule}
    first = restore(parts, state, len(batches))
    started = reported = time.monotonic()
    for step in range(first, len(batches)):
        loss = caption_loss(model, processor, [train[row] for row in batches[step]])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(projector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % KEEP_EVERY == 0:
            keep(parts, state, len(batches), step + 1)
        if time.monotonic() - reported > SECONDS_BETWEEN_LINES:
            reported = time.monotonic()
            seconds_per_step = (reported - started) / (step + 1 - first)
            left = seconds_per_step * (len(batches) - step - 1)
            report(
                f"captions: step {step + 1} of {len(batches)}, loss {float(loss.detach()):.3f},"
                f" {left:.0f} s left"
            )


def keep(parts: dict[str, Any], state: Path, steps: int, done: int) -> None:
    """Write the state of the alignment beside, then rename it into place."""
    partial = state.with_suffix(".partial")
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"steps": steps, "done": done, **states}, partial)
    partial.rename(state)


def restore(parts: dict[str, Any], state: Path, steps: int) -> int:
    """Load a kept state of an alignment of the same length; return how many steps it had done, 0
    without one.
    """
    if not state.exists():
        return 0
    kept: dict[str, Any] = torch.load(state, weights_only=True)
    if kept["steps"] != steps:
        return 0
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    return int(kept["done"])


def caption_loss(model: Any, processor: Any, batch: list[Shown]) -> Any:
    """The mean loss over the caption tokens of a batch; the large output layer sees these positions
    only.
    """
    tokenizer = processor.tokenizer
    question = prompt(processor)
    texts = [question + shown.caption + "<|im_end|>" for shown in batch]
    tokenizer.padding_side = "right"
    encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    tokens, mask = encoded["input_ids"], encoded["attention_mask"]
    start = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    embedded = embed(model, tokens, batch)
    hidden = model.model.language_model(inputs_embeds=embedded, attention_mask=mask)[0]
    answer = mask.bool()
    answer[:, :start] = False
    before = hidden[:, :-1][answer[:, 1:]]
    logits = model.lm_head(before)
    return functional.cross_entropy(logits.float(), tokens[answer])


def prompt(processor: Any) -> str:
    """The chat prompt with one placeholder per image token."""
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    turns = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    return str(text).replace(IMAGE_TOKEN, IMAGE_TOKEN * IMAGE_TOKENS)


def embed(model: Any, tokens: Tensor, batch: list[Shown]) -> Any:
    """Word embeddings with the projected images in place of their placeholders."""
    words = model.get_input_embeddings()(tokens)
    features = torch.stack([shown.features for shown in batch]).float()
    images = model.model.multi_modal_projector(features).to(words.dtype)
    mask = (tokens == model.config.image_token_id).unsqueeze(-1)
    return words.masked_scatter(mask, images)


@torch.no_grad()
def names_right(model: Any, processor: Any, held_out: list[Shown]) -> float:
    """The fraction of held-out portraits whose greedy caption is the name (with its article) and
    nothing else.
    """
    tokenizer = processor.tokenizer
    right = 0
    for start in range(0, len(held_out), CAPTION_BATCH):
        batch = held_out[start : start + CAPTION_BATCH]
        prompts = [prompt(processor)] * len(batch)
        encoded = tokenizer(prompts, return_tensors="pt", add_special_tokens=False)
        embedded = embed(model, encoded["input_ids"], batch)
        answers = generate(model, embedded)
        texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
        for text, shown in zip(texts, batch, strict=True):
            right += text.strip().lower() == shown.caption
    return right / len(held_out)


def generate(model: Any, embedded: Tensor) -> Any:
    """Greedy answers of the whole model to prompts that are already embedded."""
    mask = torch.ones(embedded.shape[:2], dtype=torch.long)
    return model.generate(inputs_embeds=embedded, attention_mask=mask, max_new_tokens=12)


def write_checkpoint(
    assembled: Path, target: Path, projector: nn.Module, scores: dict[str, float]
) -> None:
    """The assembled checkpoint in float32 with the aligned projector, written beside and renamed
    into place.
    """
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(assembled)
    model.model.multi_modal_projector.load_state_dict(projector.state_dict())
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(assembled, partial)
    model.save_pretrained(partial)
    text = json.dumps({"names_right": scores}, indent=2) + "\n"
    (partial / "alignment.json").write_text(text, encoding="utf-8")
    partial.rename(target)
