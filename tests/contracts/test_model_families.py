"""What every family of models must do with our loading, batches, loss, training, generation and
saving.

Each runs as a tiny random checkpoint of its own classes (`tiny_families`), through the code that
real ones run through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cotbal.data.batches.chat import ChatTemplate
from cotbal.data.batches.collate import Row
from cotbal.data.batches.lengths import Length
from cotbal.data.batches.order import Part
from cotbal.data.batches.questions import QuestionCollator, collator_for
from cotbal.data.batches.row_lengths import RowLengths
from cotbal.data.checks.special_tokens import read_special_tokens
from cotbal.data.files import default_cache
from cotbal.data.reading.records import open_records
from cotbal.errors import CotbalError, DataError
from cotbal.loss import IGNORED, predicting, token_counts
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.runs import final_run
from cotbal.recipe.schema import Generation
from cotbal.training import evaluation, vlm
from cotbal.training import train as training
from cotbal.training.features.images import ImageFeatures
from cotbal.training.run_paths import RunPaths
from cotbal.training.trainers.forward import valid_token_losses
from cotbal.training.trainers.head import find_head
from cotbal.training.trainers.hf import with_task_ids
from cotbal.training.trainers.packing_check import check_packing
from helpers.all_families import ARCHETYPES, FULL, SHORT
from helpers.errors import raises
from helpers.family_cases import WORDS, Case, one_thread, paint, row
from helpers.plain_rows import valid_tokens


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("families")
    paint(folder)
    return folder


FAMILIES = [
    pytest.param(name, marks=() if name in ARCHETYPES else pytest.mark.extended) for name in FULL
]


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, root: Path) -> Iterator[Case]:
    yield from one_thread(request.param, root)


def learnt(batch: dict[str, Tensor]) -> Tensor:
    return batch["labels"] != IGNORED


def test_the_loss_touches_answers_and_their_ends_alone(case: Case) -> None:
    """Where the answers are is found without any template: by asking which tokens move when the
    answers change.
    """
    one, other = (case.collator.training(case.rows(word)) for word in WORDS)
    assert one["input_ids"].shape == other["input_ids"].shape
    expected = one["input_ids"] != other["input_ids"]
    end = case.processor.tokenizer.convert_tokens_to_ids(case.family.end)
    for i, j in expected.nonzero().tolist():
        last = j + (one["input_ids"][i, j:] == end).nonzero()[0, 0]
        expected[i, j : last + 1] = True
    assert torch.equal(learnt(one), expected)
    assert (one["labels"] == one["input_ids"])[expected].all()
    assert not torch.isin(one["labels"], case.image_tokens()).any()


def test_generation_marks_and_added_text_agree(case: Case) -> None:
    """The marks of a template are used where it has them, else what it adds; one of them cannot do
    without marks.
    """
    template = case.family.template
    if template is None:
        assert isinstance(case.collator, QuestionCollator)
        return
    marks = "{% generation %}", "{% endgeneration %}"
    plain = template.replace(marks[0], "").replace(marks[1], "")
    text = r"(\{\{ part\['text'\][^}]*\}\})"
    assistant = (
        "{% if m['role'] == 'assistant' %}"
        + marks[0]
        + r"\1"
        + marks[1]
        + r"{% else %}\1{% endif %}"
    )
    marked = template if marks[0] in template else re.sub(text, assistant, template)
    batches = {}
    for name, one in (("marked", marked), ("plain", plain)):
        collator = case.collate_with(400)
        collator.chat = ChatTemplate(one, collator.tokenizer)
        if case.name == "llava_onevision" and name == "plain":
            with raises(CotbalError, "invalid-chat-template", "generation"):
                collator.training(case.rows())
            continue
        batches[name] = collator.training(case.rows())["labels"]
    assert torch.equal(case.collator.training(case.rows())["labels"], batches["marked"])
    assert torch.equal(batches["marked"], batches.get("plain", batches["marked"]))


def test_task_ids_survive_the_expansion_of_images(case: Case) -> None:
    rows = case.rows()
    tasks = [f"t{i}" for i in range(len(rows))]
    collate = with_task_ids(
        lambda batch: case.collator.training([item["row"] for item in batch]), tasks
    )
    batch = collate([{"row": one, "task": task} for one, task in zip(rows, tasks, strict=True)])
    counts = token_counts(batch["labels"], batch["task_ids"], len(tasks))
    assert counts.tolist() == [valid_tokens(case.collator, one) for one in rows]
    assert counts.tolist() == learnt(batch).sum(dim=1).tolist()


def test_measured_lengths_are_those_of_training(case: Case) -> None:
    """Without making the row, whatever its images grow to, and where `max_length` cuts it."""
    for one in case.rows("n e n"):
        item = (one.record, one.instruction)
        whole = case.collator.training([one])
        (length,) = RowLengths(case.collator).lengths([item])
        assert isinstance(length, Length)
        size = whole["input_ids"].shape[1]
        assert length.tokens == pytest.approx(size, abs=len(one.record.images))
        assert length.valid == length.kept == int(learnt(whole).sum())
        for lost in (1, 2, 5):
            collator = case.collate_with(size - lost)
            (cut,) = RowLengths(collator).lengths([item])
            if isinstance(cut, CotbalError):
                with raises(DataError, cut.code):
                    collator.training([one])
            else:
                kept = int(learnt(collator.training([one])).sum())
                assert cut == Length(length.valid, kept, size)


def losses(model: Any, batch: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return valid_token_losses(model, batch, predicting(batch["labels"]))[1]


def test_the_head_in_chunks_has_the_gradient_of_all_logits(case: Case) -> None:
    """By the formula and by torch's derivatives."""
    model, batch = case.model(language="full"), case.collator.training(case.rows())
    mask = predicting(batch["labels"])
    head = find_head(model, batch)
    assert head is not None
    factors = torch.linspace(0.5, 2, int(mask.sum()))
    gradients = []
    for by_formula in (None, True, False):
        if by_formula is None:
            loss = (valid_token_losses(model, batch, mask)[1] * factors).sum()
        else:
            loss = head.loss(model, batch, factors, by_formula)[0]
        model.zero_grad()
        loss.backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    for gradient in gradients[1:]:
        assert (gradient - gradients[0]).norm() < 1e-5 * gradients[0].norm()


def test_a_row_has_the_losses_in_a_mixed_batch_that_it_has_alone(case: Case) -> None:
    """Images, their sizes and grids, kinds of tokens and padding all reach the model, each for
    its own row.
    """
    model = case.model()
    alone = [losses(model, case.collator.training([one])) for one in case.rows()]
    together = losses(model, case.collator.training(case.rows()))
    assert torch.allclose(together, torch.cat(alone), atol=1e-3)
    # Mllama looks at the images of a row as at a set, in no order.
    others = ("blue.png", "blue.png") if case.name == "mllama" else ("blue.png", "wide.png")
    swapped = row("<image>\n<image>\nwhat is left?", "n", images=others)
    assert not torch.allclose(losses(model, case.collator.training([swapped])), alone[2], atol=1e-2)


def test_texts_alone_bring_no_images(case: Case) -> None:
    batch = case.collator.training([row("what is a tree?", "n n")] * 2)
    assert "pixel_values" not in batch
    assert losses(case.model(), batch).isfinite().all()


def test_images_are_never_cut(case: Case) -> None:
    """Processors of Gemma and Ovis call another token their image token than the one that they
    repeat.
    """
    ids = case.collator.training([case.rows()[0]])["input_ids"][0]
    images = torch.isin(ids, case.image_tokens()).nonzero()
    with raises(DataError, "images-too-long", "record 7 (r1)", "max_length"):
        case.collate_with(int(images[-1])).training([case.rows()[0]])
    whole = case.collate_with(int(images[-1]) + 4).training([case.rows()[0]])
    assert losses(case.model(), whole).isfinite().all()


def test_answers_do_not_depend_on_the_batch(case: Case) -> None:
    model = case.model()
    evaluation.set_greedy(model, case.collator)
    stops = model.generation_config.eos_token_id
    assert case.processor.tokenizer.convert_tokens_to_ids(case.family.end) in stops
    settings = [Generation(max_new_tokens=4, batch_size=size) for size in (1, 5)]
    one_by_one, together = (
        evaluation.Answerer(model, case.collator, s)(case.rows(), lambda _: None) for s in settings
    )
    assert one_by_one == together
    prompt = case.collator.prompts([case.rows()[0]])["input_ids"][0]
    trained = case.collator.training([case.rows()[0]])["input_ids"][0]
    if (
        case.name != "llava_onevision"
    ):  # its template writes a space in one, and a line break in the other
        assert trained[: len(prompt)].tolist() == prompt.tolist()


def test_its_tokens_are_found_in_texts(case: Case) -> None:
    """A record with the text of one would have an image too many, or end too early."""
    structure = read_special_tokens(case.checkpoint).structure | {"<image>"}
    assert {case.processor.image_token, case.family.end, case.collator.end} <= structure


def test_every_part_is_found_and_frozen_by_itself(case: Case) -> None:
    for part in ("vision", "projector", "language"):
        ways = dict.fromkeys(("vision", "projector", "language"), "frozen") | {part: "full"}
        model = case.model(**ways)
        of = vlm.parts(model)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {name for name in of if of[name] == part}
        assert trained
    assert (
        of[
            (
                "lm_head.weight"
                if "lm_head.weight" in of
                else "model.language_model.embed_tokens.weight"
            )
        ]
        == "language"
    )


ROUNDING = 1e-5
# The order of sums differs by the place of a tensor in memory.
BY_PLACE = ("llava_onevision",)
NOT_DIVIDED = "an input has no entry for every image"  # PaddleOCR


def gradients(model: Any, batch: dict[str, Any]) -> list[Tensor]:
    """Losses of the tokens, and the gradients of all parameters."""
    model.train()
    model.zero_grad()
    losses_of_tokens = valid_token_losses(model, batch, predicting(batch["labels"]))[1]
    losses_of_tokens.mean().backward()
    return [losses_of_tokens.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("projector", ["full", "frozen"])
def test_images_encoded_once_change_no_loss_and_no_gradient(case: Case, projector: str) -> None:
    """The first time images are encoded, the second time they are known; in another batch too."""
    lines: list[str] = []
    plain, cached = (case.model(projector=projector, language="full") for _ in range(2))
    trained = {"language"} if projector == "frozen" else {"language", "projector"}
    features = ImageFeatures(2**30, trained=trained, report=lines.append)
    features.attach(cached, training=True)
    together = case.collator.training(case.rows())
    for batch in (together, together, case.collator.training(case.rows()[2:3])):
        pairs = zip(gradients(plain, batch), gradients(cached, batch), strict=True)
        bound = 0.0 if is_exact(features) and case.name not in BY_PLACE else ROUNDING
        assert all((one - other).norm() <= bound * one.norm() for one, other in pairs)
    features.save()
    need_reuse(case, lines[0])


def is_exact(features: ImageFeatures) -> bool:
    """Whether images were encoded as by the plain tower, bit for bit: it depends on the processor
    for families that have all patches of a batch in one list.
    """
    assert features._tower is None or features._tower._forms
    return features._tower is None or all(f.exact for f in features._tower._forms.values())


def need_reuse(case: Case, line: str) -> None:
    """The log must show that most images were known, or why none was."""
    if case.name == "paddleocr_vl":
        assert NOT_DIVIDED in line
    else:
        encoded, used = re.findall(r"\d+", line)
        assert int(encoded) * 2 <= int(used)


def test_images_encoded_once_change_no_answer(case: Case) -> None:
    """Also of a model that was trained on features, and whose tower is in evaluation mode."""
    plain, cached = case.model(), case.model()
    lines: list[str] = []
    features = ImageFeatures(2**30, report=lines.append)
    settings = Generation(max_new_tokens=4, batch_size=2)
    features.attach(cached)
    answers = []
    for model in (plain, cached, cached):
        evaluation.set_greedy(model, case.collator)
        answerer = evaluation.Answerer(model, case.collator, settings)
        answers.append(answerer(case.rows(), lambda _: None))
    assert answers[1] == answers[2] == answers[0]
    features.attach(trained := case.model(language="full"), training=True)
    computed = gradients(trained, batch := case.collator.training(case.rows()))
    assert torch.allclose(computed[0], losses(plain, batch), atol=1e-5)
    need_reuse(case, lines[0])


def test_gradient_checkpointing_changes_no_gradient(case: Case) -> None:
    batch = case.collator.training(case.rows())
    gradients = []
    for on in (False, True):
        model = case.model(vision="full", gradient_checkpointing=on).train()
        valid_token_losses(model, batch, predicting(batch["labels"]))[1].sum().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    assert torch.allclose(*gradients, atol=1e-5)
    assert gradients[0].norm() > 0


def test_merged_adapters_and_processor_come_back_as_they_were(case: Case, tmp_path: Path) -> None:
    model = case.model(vision="lora", projector="full", language="lora").eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    batch = case.collator.training(case.rows())
    before, untouched = losses(model, batch), losses(case.model(), batch)
    vlm.save_merged(model, case.processor, tmp_path / "merged", "float32")
    again, processor = vlm.load(str(tmp_path / "merged"), "float32", False)
    collator = collator_for(processor, case.images, 400)
    assert torch.allclose(losses(again.eval(), collator.training(case.rows())), before, atol=1e-4)
    assert not torch.allclose(before, untouched, atol=1e-3)
    settings = [
        json.loads((d / "processor_config.json").read_text())
        for d in (case.checkpoint, tmp_path / "merged")
    ]
    assert settings[0].get("video_processor") == settings[1].get("video_processor")


def test_packed_rows_have_the_losses_of_padded_ones_or_are_rejected(case: Case) -> None:
    items = [{"row": one, "task": "t"} for one in case.rows()]
    collate = with_task_ids(
        lambda batch: case.collator.training([item["row"] for item in batch]), ["t"]
    )
    padding = case.processor.tokenizer.pad_token_id
    if case.family.packs:
        assert check_packing(case.model(), collate, items, padding) is not None
    else:
        with pytest.raises(CotbalError) as caught:
            check_packing(case.model(), collate, items, padding)
        assert caught.value.code in ("model-not-supported", "unsupported-packing")


RECIPE = """\
name: tiny
images: images
tasks:
  one: {{train: one.jsonl, validation: one.jsonl}}
  two: {{train: two.jsonl, validation: two.jsonl}}
model:
  checkpoint: {name}
  max_length: 400
  dtype: bfloat16
  language: lora
  gradient_checkpointing: true
optimization: {{batch_size: 6, micro_batch_size: 3, learning_rate: 1.0e-2, warmup_ratio: 0}}
"""


def test_a_training_moves_what_it_should_and_leaves_a_checkpoint(
    case: Case, root: Path, tmp_path: Path
) -> None:
    """Through `training.train`, in bfloat16 with adapters and gradient checkpointing: weighted,
    checked, saved.
    """
    for task, word in zip(("one", "two"), WORDS, strict=True):
        kept = case.rows(word)[:3]
        (root / f"{task}.jsonl").write_text(
            "".join(json.dumps(as_written(one, i)) + "\n" for i, one in enumerate(kept))
        )
    (root / f"{case.name}.yaml").write_text(RECIPE.format(name=case.name))
    recipe = load_recipe(root / f"{case.name}.yaml")
    parts: list[Part] = []
    for task in recipe.mixture.tasks:
        records = open_records(task.train, default_cache())
        parts.append((task.name, records, np.arange(len(records)), None))
    run = final_run(recipe.mixture, "cotbal")
    weights = {"one": 0.5, "two": 1.5}
    done = training.train(
        recipe,
        run,
        training.Mixed(parts),
        weights,
        RunPaths(tmp_path),
        training.Session(lambda step, total, loss: None),
    )
    assert done.steps == 1
    assert done.tokens == 2 * sum(valid_tokens(case.collator, one) for one in case.rows()[:3])
    assert done.self_check is not None
    before, after = (
        vlm.load(str(d), "bfloat16", False)[0] for d in (case.checkpoint, tmp_path / "checkpoint")
    )
    moved = dict.fromkeys(("vision", "projector", "language"), False)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        moved[vlm.parts(before)[name]] |= not torch.equal(old, new)
    assert moved == {"vision": False, "projector": True, "language": True}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.extended) for name in SHORT])
def short_case(request: pytest.FixtureRequest, root: Path) -> Iterator[Case]:
    yield from one_thread(request.param, root)


def test_the_heart_of_the_contract(short_case: Case, root: Path, tmp_path: Path) -> None:
    """For families that differ little from one above."""
    test_the_loss_touches_answers_and_their_ends_alone(short_case)
    test_a_row_has_the_losses_in_a_mixed_batch_that_it_has_alone(short_case)
    test_images_are_never_cut(short_case)
    test_answers_do_not_depend_on_the_batch(short_case)
    test_images_encoded_once_change_no_loss_and_no_gradient(short_case, "frozen")
    test_images_encoded_once_change_no_answer(short_case)
    test_packed_rows_have_the_losses_of_padded_ones_or_are_rejected(short_case)
    test_a_training_moves_what_it_should_and_leaves_a_checkpoint(short_case, root, tmp_path)


def as_written(one: Row, number: int) -> dict[str, Any]:
    who = {"user": "human", "assistant": "gpt"}
    turns = [{"from": who[turn.role], "value": turn.text} for turn in one.record.turns]
    return {"id": str(number), "image": list(one.record.images), "conversations": turns}
