"""Answers with images that are computed once for all questions on them: those of `generate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cotbal.data.batches.choices import option_rows
from cotbal.data.batches.collate import Row
from cotbal.data.batches.prefixes import prefixed, prompts, waves
from cotbal.loss import IGNORED
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation
from cotbal.training.decoding import choices
from cotbal.training.decoding.greedy import Decoder
from cotbal.training.decoding.support import FAMILIES, obstacle
from helpers.all_families import ARCHETYPES, FULL, SHORT
from helpers.family_cases import Case, one_thread, paint, row


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    paint(folder)
    return folder


SHARED = [name for name in (*FULL, *SHORT) if name in {*FAMILIES, "pixtral"}]


def params(names: Sequence[str]) -> list[Any]:
    marks = {False: pytest.mark.extended, True: ()}
    return [pytest.param(name, marks=marks[name in ARCHETYPES]) for name in names]


@pytest.fixture(scope="module", params=params(SHARED))
def case(request: pytest.FixtureRequest, root: Path) -> Iterator[Case]:
    yield from one_thread(request.param, root)


def asked(case: Case) -> list[Row]:
    """Several questions on an image, on two, and without any, of several lengths."""
    return [
        *case.rows(),
        row("<image>\nwhat tree is left of the big drum?", "n", images=("red.png",)),
        row("<image>\nn e?", "n", images=("red.png",)),
        row("<image>\nright? n e n e", "n", images=("blue.png",)),
        row("<image>\n<image>\nis it blue?", "n", images=("wide.png", "blue.png")),
        row("<image>\nis it left of the yellow bar?", "n", images=("wide.png",)),
    ]


def model_of(case: Case) -> Any:
    model = case.model()
    evaluation.set_greedy(model, case.collator)
    return model


def test_answers_are_those_of_generate(case: Case) -> None:
    model, rows = model_of(case), asked(case)
    assert obstacle(model, case.collator) is None
    alone, *others = (
        evaluation.Answerer(
            model, case.collator, Generation(max_new_tokens=40, batch_size=size), shared=shared
        )(rows, lambda _: None)
        for size, shared in ((1, False), (4, False), (2, True), (16, True))
    )
    assert others == [alone] * 3
    assert len(set(alone)) > 1, "rows that all get one answer would prove nothing"


def test_the_first_token_has_the_logits_of_a_row_alone(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = model_of(case), asked(case)
    seen: list[Tensor] = []
    forward = model.forward

    def noted(**inputs: Any) -> Any:
        output = forward(**inputs)
        seen.append(output.logits[:, -1])
        return output

    monkeypatch.setattr(model, "forward", noted)
    for wave in waves(prompts(case.collator, rows), case.processor.image_token, 16):
        batch = prefixed(case.collator, wave)
        assert batch is not None
        (_answers,) = Decoder(model, max_new_tokens=1, size=16)(batch)
        for prompt, logits in zip(batch.prompts, seen[-1], strict=True):
            with torch.inference_mode():
                alone = forward(**case.collator.prompts([prompt.row])).logits[0, -1]
            assert (logits - alone).abs().max() < 1e-5 * alone.abs().max()


def test_options_have_the_likelihood_of_a_row_alone(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = model_of(case), offering(asked(case))
    for shared, size in ((False, 4), (True, 2), (True, 16)):
        values = likelihoods_of(case, model, rows, monkeypatch, shared, size)
        assert values == pytest.approx([v for r in rows for v in of_loss(case, model, r)], rel=1e-5)


def offering(rows: Sequence[Row]) -> list[Row]:
    """Those with one answer, which is to be chosen, each of another id."""
    options = ("n", "e n e n", "n e", "which color")
    single = [one for one in rows if len(one.record.turns) == 2]
    return [
        replace(one, choose="sum", record=replace(one.record, id=f"r{i}", options=options))
        for i, one in enumerate(single)
    ]


def likelihoods_of(
    case: Case, model: Any, rows: Sequence[Row], patch: pytest.MonkeyPatch, shared: bool, size: int
) -> list[float]:
    """Of all options, in the order of the rows."""
    seen: dict[str, list[float]] = {}

    def noted(some: Any, values: Any) -> list[str]:
        rest = iter(values)
        for prompt in some:
            seen[prompt.row.record.id] = [next(rest).total for _ in prompt.row.options]
        return ["n"] * len(some)

    patch.setattr(choices, "most_likely", noted)
    patch.setattr(evaluation, "most_likely", noted)
    settings = Generation(batch_size=size)
    evaluation.Answerer(model, case.collator, settings, shared=shared)(rows, lambda _: None)
    return [value for one in rows for value in seen[one.record.id]]


def of_loss(case: Case, model: Any, asked: Row) -> Iterator[float]:
    """The log-likelihoods of the options of a row, by the loss of the model."""
    for answered in option_rows(asked):
        batch = case.collator.training([answered])
        with torch.inference_mode():
            loss = model(**batch).loss
        yield -float(loss) * int((batch["labels"] != IGNORED).sum())


@pytest.mark.parametrize("name", params([name for name in ARCHETYPES if name not in SHARED]))
def test_other_families_choose_with_a_row_per_option(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in one_thread(name, root):
        model, rows = model_of(other), offering(other.rows())
        values = likelihoods_of(other, model, rows, monkeypatch, shared=False, size=4)
        expected = [v for one in rows for v in of_loss(other, model, one)]
        assert values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", params([name for name in ARCHETYPES if name not in SHARED]))
def test_other_families_have_a_reason_for_generate(name: str, root: Path) -> None:
    for other in one_thread(name, root):
        assert obstacle(model_of(other), other.collator)
