"""Greedy answers of a checkpoint, kept as text beside their references."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import torch
from transformers import AutoConfig, GenerationConfig

from cotbal.data.batches.choices import Offered, by_options, offered, option_batch
from cotbal.data.batches.collate import Collator, Row
from cotbal.data.batches.loading import made, processes
from cotbal.data.batches.prefixes import Group, Prefixed, Prompt, in_parts, prefixed, prompts, waves
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.files import write_sealed_rows
from cotbal.data.reading.record import Record, answer_row
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.schema import Generation
from cotbal.training import vlm
from cotbal.training.decoding.choices import Chooser, likelihoods, most_likely
from cotbal.training.decoding.greedy import Decoder
from cotbal.training.decoding.prefill import on_device
from cotbal.training.decoding.support import GREEDY, IDS, obstacle, other_settings
from cotbal.training.features.images import ImageFeatures
from cotbal.training.ranks import ALONE, Ranks
from cotbal.training.run_paths import RunPaths

AnyCollator = Collator | QuestionCollator
Report = Callable[[Mapping[int, str]], None]  # answers since the last report, by index of their row
NONE: Mapping[int, str] = MappingProxyType({})
Share = TypeVar("Share")  # prompts that are answered together
Batch = TypeVar("Batch")


class Shares(Protocol):
    """Shares of the questions that several processes take from one queue."""

    def taken(self, count: int) -> Iterator[int]:
        """Of so many shares those that this process answers; each was answered when the next one
        is asked for.
        """

    def received(self) -> Mapping[int, str]:
        """The answers of the other processes afterwards, by index of their row."""


def answerer(
    recipe: Recipe,
    checkpoint: str,
    ranks: Ranks,
    images: Path | None = None,
    features: ImageFeatures | None = None,
    queue: Shares | None = None,
) -> Answerer:
    """Load a checkpoint; the result answers rows with the settings of the recipe.

    Args:
        images: root of image names; by default that of the recipe.
        features: keeps what the vision tower computes; None encodes images in every batch.
        queue: which shares this process answers; None for every one of its rank.
    """
    model, processor = vlm.load(checkpoint, recipe.model.dtype, recipe.model.remote_code)
    device_model: Any = model.to("cuda" if torch.cuda.is_available() else "cpu")
    collator = collator_for(processor, images or recipe.images, recipe.model.max_length)
    set_greedy(device_model.eval(), collator)
    if features is not None:
        features.attach(device_model)
    ignored = ignored_settings(checkpoint, recipe.model.remote_code)
    if ignored and ranks.main:
        listed = ", ".join(f"{name}={value}" for name, value in ignored.items())
        print(f"greedy answers: generation settings of {checkpoint} that are not used: {listed}")
    reason = obstacle(device_model, collator)
    if ranks.main:
        print(
            f"answers: every question with its images ({reason})"
            if reason
            else "answers: images are computed once for all questions on them"
        )
        _print_choices(recipe, reason)
    workers = processes(recipe.resources.dataloader_workers)
    settings = recipe.file.generation
    return Answerer(device_model, collator, settings, ranks, workers, reason is None, queue)


def _print_choices(recipe: Recipe, reason: str | None) -> None:
    tasks = [task.name for task in recipe.mixture.tasks if task.choose]
    if not tasks:
        return
    form = "images and questions are computed once for all options"
    if reason:
        form = f"every option with its question and images ({reason})"
    print(f"answers chosen among options ({', '.join(tasks)}): {form}")


@dataclass(frozen=True)
class Answerer:
    """Answers of a model, greedy or chosen among the options of a record. Ranks take batches in
    turn, and all of them get all answers.

    Attributes:
        workers: processes per rank that make the next batches meanwhile.
        shared: compute images once for all questions on them, where `obstacle` permits it.
        queue: which batches this process answers, instead of those of its rank; they are not made
            ahead then.
    """

    model: Any
    collator: AnyCollator
    settings: Generation
    ranks: Ranks = ALONE
    workers: int = 0
    shared: bool = False
    queue: Shares | None = None

    def __call__(
        self, rows: Sequence[Row], report: Report, known: Mapping[int, str] = NONE
    ) -> list[str]:
        """The answers, in the order of `rows`.

        Args:
            known: answers of an evaluation of the same rows that was stopped, by index of their
                row.
        """
        answers = dict(known)
        for some in self.some(rows, known):
            answers |= some
            report(some)
        others = self.ranks.gathered(answers) if self.queue is None else [self.queue.received()]
        for part in others:
            answers |= part
        return [answers[i] for i in range(len(rows))]

    def some(self, rows: Sequence[Row], known: Collection[int] = ()) -> Iterator[dict[int, str]]:
        """The answers of this process by index of their row, as they come.

        Args:
            known: rows that need no answer. Batches are those of all rows, because answers in
                bfloat16 depend on them: one is left out only if all its rows are known.
        """
        generated: list[Prompt] = []
        chosen: list[Prompt] = []
        for prompt in prompts(self.collator, rows):
            if prompt.row.options:
                chosen.append(prompt)
            else:
                generated.append(prompt)
        if self.shared:
            all_answers = self._shared(generated, chosen, known)
        else:
            batches = self._batches(generated) + self._batches(chosen)
            all_answers = self._plain([batch for batch in batches if _is_open(batch, known)])
        for answers in all_answers:
            if new := {index: text for index, text in answers.items() if index not in known}:
                yield new

    def _plain(self, shares: list[list[Prompt]]) -> Iterator[dict[int, str]]:
        """By `generate`, or a row per option; each row with its images."""
        for share, batch in self._made(shares, self._inputs):
            yield _by_index(share, self._answers(share, batch))

    def _shared(
        self, generated: Sequence[Prompt], chosen: Sequence[Prompt], known: Collection[int]
    ) -> Iterator[dict[int, str]]:
        """By `Decoder` and `Chooser`, or as without them where prompts cannot be taken apart."""
        size = self.settings.batch_size
        token = self.collator.processor.image_token
        every = waves(generated, token, size) + waves(chosen, token, size)
        shares = [wave for wave in every if _is_open(chain(*wave), known)]
        decode = Decoder(self.model, self.settings.max_new_tokens, size)
        choose = Chooser(self.model, size)
        for share, batch in self._made(shares, self._shared_inputs):
            if batch is None:
                yield from self._apart(list(chain(*share)))
            elif isinstance(batch, Offered):
                for some, texts in choose(batch):
                    yield _by_index(some, texts)
            else:
                for some, tokens in decode(batch):
                    yield _by_index(some, self._texts(tokens))

    def _shared_inputs(self, wave: Sequence[Group]) -> Prefixed | Offered | None:
        if wave[0][0].row.options:
            return offered(self.collator, wave)
        return prefixed(self.collator, wave)

    def _made(
        self, shares: Sequence[Share], make: Callable[[Share], Batch]
    ) -> Iterator[tuple[Share, Batch]]:
        """The shares that this process answers, and what `make` makes of them."""
        if self.queue is None:
            mine = shares[self.ranks.rank :: self.ranks.size]
            yield from zip(mine, made(mine, make, self.workers), strict=True)
            return
        for number in self.queue.taken(len(shares)):
            yield shares[number], make(shares[number])

    def _batches(self, asked: Sequence[Prompt]) -> list[list[Prompt]]:
        """Rows with long answers first, and rows of like length together: a batch of `generate`
        ends when its last row has ended.
        """
        size = self.settings.batch_size
        ordered = sorted(asked, key=lambda prompt: prompt.order)
        if asked and asked[0].row.options:
            return by_options(ordered, size)
        return in_parts(ordered, size)

    def _apart(self, asked: Sequence[Prompt]) -> Iterator[dict[int, str]]:
        shares = self._batches(asked)
        for share, batch in zip(shares, made(shares, self._inputs, self.workers), strict=True):
            yield _by_index(share, self._answers(share, batch))

    def _answers(self, share: Sequence[Prompt], batch: dict[str, Any]) -> list[str]:
        if share[0].row.options:
            return most_likely(share, likelihoods(self.model, batch))
        return self._generate(batch)

    def _inputs(self, share: Sequence[Prompt]) -> dict[str, Any]:
        if share[0].row.options:
            return option_batch(self.collator, share)
        return self.collator.tokens([p.row for p in share], [p.text for p in share])

    def _generate(self, batch: dict[str, Any]) -> list[str]:
        inputs = {key: on_device(self.model, value) for key, value in batch.items()}
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=self.settings.max_new_tokens)
        return self._texts(tokens[:, inputs["input_ids"].shape[1] :])

    def _texts(self, tokens: Any) -> list[str]:
        texts = self.collator.tokenizer.batch_decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text.strip() for text in texts]


def _is_open(asked: Iterable[Prompt], known: Collection[int]) -> bool:
    """Whether one of these prompts needs an answer."""
    return any(prompt.index not in known for prompt in asked)


def _by_index(asked: Sequence[Prompt], texts: Sequence[str]) -> dict[int, str]:
    return {prompt.index: text for prompt, text in zip(asked, texts, strict=True)}


def set_greedy(model: Any, collator: AnyCollator) -> None:
    """Make `model.generate` choose the most likely token at every step.

    Only the ids of special tokens are kept of the checkpoint's generation settings: others
    (`repetition_penalty`, `min_new_tokens`, `suppress_tokens`, ...) could change the most likely
    token. An answer ends at the token that ends a turn in training, or at one of the checkpoint's.
    """
    stored = model.generation_config
    tokenizer = collator.tokenizer
    ends = stored.eos_token_id if isinstance(stored.eos_token_id, list) else [stored.eos_token_id]
    model.generation_config = GenerationConfig(
        **GREEDY,
        **{name: getattr(stored, name) for name in IDS},
        eos_token_id=sorted({*ends, tokenizer.convert_tokens_to_ids(collator.end)} - {None}),
        pad_token_id=tokenizer.pad_token_id,
    )


def ignored_settings(checkpoint: str, remote_code: bool) -> dict[str, Any]:
    """Generation settings of a checkpoint (or hub name) that `set_greedy` leaves out."""
    try:
        stored = GenerationConfig.from_pretrained(checkpoint)
    except OSError:  # no generation_config.json: transformers reads the configuration of the model
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
        stored = GenerationConfig.from_model_config(config)
    return other_settings(stored)


def write_generations(
    paths: RunPaths, task: str, split: str, records: Sequence[Record], answers: Sequence[str]
) -> None:
    """Write answers with questions and references, to recompute scores without a model."""
    rows = (answer_row(*pair) for pair in zip(records, answers, strict=True))
    write_sealed_rows(paths.generations(task, split), rows)
