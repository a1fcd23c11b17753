"""What a weighting receives from a training, and that a resumed training equals a whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForImageTextToText, TrainerCallback

from cotbal.errors import CotbalError
from cotbal.training.trainers.observer import KEY
from cotbal.training.trainers.step import by_task
from cotbal.weightings import Weighting, dwa, igbv1, rlw
from helpers.errors import raises
from helpers.trainer_cases import (
    EQUAL,
    TASK_LEVEL,
    TASKS,
    WEIGHTS,
    Spy,
    distance,
    rows,
    trainer_of,
    update,
)

STEPS = {"max_steps": 3, "learning_rate": 0.5}


def model_of(checkpoint: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("micro", "accumulation"),
    [(4, 4), *(pytest.param(*case, marks=pytest.mark.extended) for case in ((16, 1), (1, 16)))],
)
def test_every_optimizer_step_is_observed_once(
    checkpoint: Path, tmp_path: Path, micro: int, accumulation: int
) -> None:
    """Not of micro-batches, not of the self-check and not of evaluations; the losses are unweighted
    means.
    """
    spy = Spy()
    result = update(
        checkpoint,
        tmp_path,
        micro,
        accumulation,
        spy,
        eval_dataset=rows(),
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
        **STEPS,
    )
    assert result["check"] is not None
    assert len(spy.observed) == 3
    lines = [line for line in result["log"] if "task_losses" in line]
    for (losses, counts), line in zip(spy.observed, lines, strict=True):
        np.testing.assert_allclose(losses, [line["task_losses"][task] for task in TASKS], rtol=1e-6)
        assert counts.tolist() == [40, 51, 37]
    first = update(checkpoint, tmp_path, 16, 1, EQUAL)["log"][0]
    np.testing.assert_allclose(
        spy.observed[0][0], [first["task_losses"][task] for task in TASKS], rtol=1e-5
    )


SINGLE = "optimizer steps held the tokens of a single task"


@pytest.mark.parametrize(
    ("weighting", "more", "reported"),
    [
        (WEIGHTS, {"max_steps": 12}, ["10 of 10", "12 of 12"]),
        (WEIGHTS, {"max_steps": 2}, ["2 of 2"]),
        (WEIGHTS, {"max_steps": 12, "normalizer": "tokens"}, []),
        (EQUAL, {"max_steps": 12}, []),
        (TASK_LEVEL, {"max_steps": 12}, []),
    ],
    ids=["long", "short", "tokens", "ew", "tla"],
)
def test_steps_of_a_single_task_are_reported(
    checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    weighting: Any,
    more: dict[str, Any],
    reported: list[str],
) -> None:
    """One row per step, as of many who fine-tune on a small GPU: the update is that without
    weights."""
    steps = {"learning_rate": 0.1, **more}
    weighted = update(checkpoint, tmp_path, 1, 1, weighting, **steps)
    assert [line.split(f" {SINGLE}")[0] for line in caplog.messages if SINGLE in line] == reported
    if reported:
        assert distance(weighted, update(checkpoint, tmp_path, 1, 1, EQUAL, **steps)) < 1e-5


def test_steps_of_several_tasks_are_not(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    update(checkpoint, tmp_path, 4, 4, max_steps=2)
    assert SINGLE not in caplog.text


def test_an_absent_task_is_observed_as_absent(checkpoint: Path, tmp_path: Path) -> None:
    spy = Spy()
    update(checkpoint, tmp_path, 2, 2, spy, **STEPS)  # 4 rows per step, neighbours share a task
    losses, counts = spy.observed[0]
    assert np.isnan(losses).tolist() == [False, True, True]
    assert (counts > 0).tolist() == [True, False, False]


def test_the_log_shows_the_weights_that_a_step_used(checkpoint: Path, tmp_path: Path) -> None:
    """And over several steps the mean weight of a token, and the losses of all of them."""
    lines = update(checkpoint, tmp_path, 4, 4, Spy(), **STEPS)["log"][:-1]
    assert [line["weights"]["a"] for line in lines] == [1, 2, 3]
    assert [line["mean_weight"] for line in lines] == pytest.approx(
        [1, (2 * 40 + 88) / 128, (3 * 40 + 88) / 128]
    )
    rare = update(checkpoint, tmp_path, 4, 4, Spy(), logging_steps=3, **STEPS)["log"][0]
    assert rare["weights"]["a"] == 3
    assert rare["mean_weight"] == pytest.approx((6 * 40 + 3 * 88) / (3 * 128))
    assert rare["task_tokens"] == {"a": 120, "b": 153, "c": 111}
    assert rare["task_losses"] == pytest.approx(
        {task: np.mean([line["task_losses"][task] for line in lines]) for task in TASKS}, rel=1e-5
    )


def test_callbacks_of_the_caller_find_the_step_observed(checkpoint: Path, tmp_path: Path) -> None:
    spy = Spy()
    observed = []

    class Late(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            observed.append(len(spy.observed))

    update(checkpoint, tmp_path, 4, 4, spy, callbacks=[Late()], **STEPS)
    assert observed == [1, 2, 3]


def dynamic(name: str, tasks: tuple[str, ...] = TASKS) -> Weighting:
    """Methods that are in motion after a few steps."""
    if name == "RLW":
        return rlw.build(tasks, seed=2)
    if name == "DWA":
        return dwa.build(tasks, window=2, temperature=0.005)
    return igbv1.build(tasks, window=2)


@pytest.mark.parametrize(
    "name",
    ["DWA", *(pytest.param(name, marks=pytest.mark.extended) for name in ("RLW", "IGBv1"))],
)
def test_resuming_is_exact(checkpoint: Path, tmp_path: Path, name: str) -> None:
    """Before and after the weights begin to move; 4 rows per step, so that tasks are absent."""
    settings = {"max_steps": 9, "learning_rate": 0.5}
    saving = {**settings, "save_strategy": "steps", "save_steps": 3}
    straight = trainer_of(model_of(checkpoint), tmp_path, 2, 2, dynamic(name), **saving)
    straight.train()
    used, end = weights_of(straight), straight.model.state_dict()
    for stop in (3, 6):
        resumed = trainer_of(model_of(checkpoint), tmp_path, 2, 2, dynamic(name), **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}"))
        assert weights_of(resumed) == used
        assert len({json.dumps(weights) for weights in used[stop:]}) > 2
        for (key, a), b in zip(end.items(), resumed.model.state_dict().values(), strict=True):
            assert torch.equal(a, b), key


def weights_of(trainer: Any) -> list[dict[str, float]]:
    """Of every line of its log."""
    return [
        line["weights"] for line in map(by_task, trainer.state.log_history) if "weights" in line
    ]


def saved(checkpoint: Path, directory: Path, weighting: Any) -> str:
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer_of(model_of(checkpoint), directory, 4, 4, weighting, **settings).train()
    return str(directory / "checkpoint-1")


def test_a_checkpoint_without_the_state_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    source = saved(checkpoint, tmp_path, EQUAL)
    trainer = trainer_of(model_of(checkpoint), tmp_path, 4, 4, dynamic("DWA"), max_steps=2)
    with raises(CotbalError, "other-weighting", "step 1", "DWA"):
        trainer.train(resume_from_checkpoint=source)
    path = Path(source) / "trainer_state.json"
    state = json.loads(path.read_text())
    del state["stateful_callbacks"][KEY]  # as a stock Trainer leaves it
    path.write_text(json.dumps(state))
    with raises(CotbalError, "other-weighting", "step 1", "IGBv1"):
        trainer_of(model_of(checkpoint), tmp_path, 4, 4, dynamic("IGBv1"), max_steps=2).train(
            resume_from_checkpoint=source
        )
    trainer_of(model_of(checkpoint), tmp_path, 4, 4, EQUAL, max_steps=2).train(
        resume_from_checkpoint=source
    )


def test_a_checkpoint_of_other_tasks_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    """State goes by position inside, so an order that changed must not pass."""
    source = saved(checkpoint, tmp_path, dynamic("DWA"))
    path = Path(source) / "trainer_state.json"
    path.write_text(path.read_text().replace('"a",\n        "b",', '"b",\n        "a",'))
    trainer = trainer_of(model_of(checkpoint), tmp_path, 4, 4, dynamic("DWA"), max_steps=2)
    with raises(CotbalError, "other-tasks", "b, a, c", "a, b, c"):
        trainer.train(resume_from_checkpoint=source)


def test_a_second_training_starts_from_the_initial_state(checkpoint: Path, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(checkpoint), tmp_path, 4, 4, dynamic("DWA"), max_steps=6)
    for _ in range(2):
        trainer.train()
        weights = [line["a"] for line in weights_of(trainer)]
        assert weights[:4] == [1, 1, 1, 1]
        assert weights[4] != 1


@pytest.mark.parametrize(("steps", "warned"), [(4, 1), (5, 0)])
def test_a_training_that_is_too_short_for_the_method_warns_once(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int, warned: int
) -> None:
    update(checkpoint, tmp_path, 4, 4, dynamic("DWA"), max_steps=steps)
    messages = [
        record.getMessage() for record in caplog.records if record.name.startswith("cotbal")
    ]
    assert len(messages) == warned
    assert all("DWA" in text and "step 4" in text and "4 steps" in text for text in messages)


def test_the_observed_step_does_not_change_the_update(checkpoint: Path, tmp_path: Path) -> None:
    """DWA before it starts is EW."""
    waiting = update(checkpoint, tmp_path, 4, 4, dwa.build(TASKS), **STEPS)
    assert distance(waiting, update(checkpoint, tmp_path, 4, 4, EQUAL, **STEPS)) == 0


def test_trackers_see_plain_numbers_of_every_step(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from TensorBoard's own files; the weights of a dynamic method change with every
    step.
    """
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    result = update(checkpoint, tmp_path, 4, 4, Spy(), report_to=["tensorboard"], **STEPS)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/weights/a")] == [1, 2, 3]
    for task in TASKS:
        seen = [event.value for event in events.Scalars(f"train/task_losses/{task}")]
        assert seen == pytest.approx([line["task_losses"][task] for line in result["log"][:-1]])
