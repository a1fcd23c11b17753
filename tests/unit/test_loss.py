"""The pure functions under the trainer, against plain loops."""

from __future__ import annotations

import jaxtyping
import pytest
import torch

from cotbal.loss import (
    IGNORED,
    predicting,
    task_level,
    task_sums,
    token_counts,
    token_level,
    token_losses,
    token_tasks,
    weighted_sum,
)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 11, (6, 9), generator=generator)
    labels[torch.rand(6, 9, generator=generator) < 0.5] = IGNORED
    labels[4] = IGNORED  # a row that was cut down to its prompt
    return {
        "labels": labels,
        "task_ids": torch.tensor([0, 1, 1, 2, 0, 2]),
        "logits": torch.randn(6, 9, 11, generator=generator, dtype=torch.float64),
    }


def loops(batch: dict[str, torch.Tensor], tasks: int) -> tuple[list[float], list[int]]:
    sums, counts = [0.0] * tasks, [0] * tasks
    log_p = batch["logits"].log_softmax(-1)
    for row, task in enumerate(batch["task_ids"].tolist()):
        for position in range(1, batch["labels"].shape[1]):
            label = int(batch["labels"][row, position])
            if label != IGNORED:
                sums[task] -= float(log_p[row, position - 1, label])
                counts[task] += 1
    return sums, counts


def test_counts_and_sums_agree_with_loops(batch: dict[str, torch.Tensor]) -> None:
    sums, counts = loops(batch, 4)
    mask = predicting(batch["labels"])
    losses = token_losses(batch["logits"][mask], batch["labels"][:, 1:][mask[:, :-1]])
    tasks_of = token_tasks(batch["labels"], batch["task_ids"])
    assert token_counts(batch["labels"], batch["task_ids"], 4).tolist() == counts
    assert task_sums(losses, tasks_of, 4).tolist() == pytest.approx(sums, rel=1e-5)


def test_the_task_of_a_token_is_that_of_the_token_predicted() -> None:
    """Two packed rows of the tasks 1 and 0: position 2 holds the last token of task 1 and predicts
    the first of 0.
    """
    labels = torch.tensor([[IGNORED, 5, 6, 7, 8]])
    ids = torch.tensor([[1, 1, 1, 0, 0]])
    assert token_tasks(labels, ids).tolist() == [1, 1, 0, 0]
    assert token_counts(labels, ids, 3).tolist() == [2, 2, 0]
    assert token_tasks(labels, torch.tensor([2])).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("shape", [(4,), (2, 4), (3, 5), (2, 1)])
def test_task_ids_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    labels = torch.ones(2, 5, dtype=torch.long)
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        token_tasks(labels, torch.zeros(shape, dtype=torch.long))


def test_first_token_is_never_predicted() -> None:
    labels = torch.tensor([[5, IGNORED, IGNORED]])
    assert not predicting(labels).any()
    assert token_counts(labels, torch.tensor([0]), 1).tolist() == [0]


def test_equation_1_and_2(batch: dict[str, torch.Tensor]) -> None:
    sums, counts = loops(batch, 3)
    n, w = torch.tensor(counts), torch.tensor([0.5, 2.0, 1.25])
    plain = sum(token_level(n, torch.ones(3)).tolist()[t] * sums[t] for t in range(3))
    assert plain == pytest.approx(sum(sums) / sum(counts))
    weighted = sum(token_level(n, w).tolist()[t] * sums[t] for t in range(3))
    numerator = sum(w[t].item() * sums[t] for t in range(3))
    assert weighted == pytest.approx(numerator / sum(w[t].item() * counts[t] for t in range(3)))
    assert torch.equal(token_level(n, w, "per_device"), token_level(n, w))
    by_tokens = sum(token_level(n, w, "tokens").tolist()[t] * sums[t] for t in range(3))
    assert by_tokens == pytest.approx(numerator / sum(counts))


def test_scaling_all_weights_changes_nothing() -> None:
    n, w = torch.tensor([3, 0, 9]), torch.tensor([0.5, 2.0, 1.25])
    assert torch.allclose(token_level(n, w), token_level(n, 7 * w))
    assert not torch.allclose(token_level(n, w, "tokens"), token_level(n, 7 * w, "tokens"))


def test_task_level_divides_by_the_tasks_that_are_present() -> None:
    assert task_level(torch.tensor([4, 0, 2])).tolist() == pytest.approx([1 / 8, 0, 1 / 4])


def test_a_step_without_valid_tokens_has_coefficients_of_zero() -> None:
    nothing = torch.zeros(3, dtype=torch.long)
    assert token_level(nothing, torch.ones(3)).tolist() == [0, 0, 0]
    assert task_level(nothing).tolist() == [0, 0, 0]


def test_an_empty_micro_batch_stays_connected_to_the_graph() -> None:
    logits = torch.randn(0, 11, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    weighted_sum(token_losses(logits, none), none, torch.ones(2)).backward()
    assert logits.grad is not None


def test_a_confident_token_still_counts() -> None:
    logits = torch.tensor([[60.0, 0.0], [0.0, 0.0]])
    losses = token_losses(logits, torch.tensor([0, 0]))
    assert losses[0] == 0
    assert weighted_sum(losses, torch.tensor([0, 0]), torch.tensor([0.5])) == pytest.approx(
        0.5 * losses[1].item()
    )
