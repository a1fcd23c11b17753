"""What a job starts from: records, portions, digests of content, and the identity of every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cotbal.data.batches.lengths import Meter, open_meter, sampled_lengths
from cotbal.data.checks.texts import need_sound_texts
from cotbal.data.files import default_cache
from cotbal.data.reading.image_states import ImageStates
from cotbal.data.reading.records import Records, open_records
from cotbal.data.sampling import Portioned, draw_portions, kept_records, write_manifest
from cotbal.errors import DataError
from cotbal.jobs.rundir import RunDir
from cotbal.recipe.mixture import TRAIN, Task, set_name
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.runs import Run
from cotbal.scores.measure import problem_finder

# Raise it when a change of the code changes the result of a run, so that old runs are not reused.
# 2: labels of words that begin with a space, ends of turns from the template; 3: answers are greedy
# whatever the checkpoint's generation settings are; 4: prompts close earlier answers as training
# does.
CODE_VERSION = 4
TOKEN_SAMPLE = 500  # records per task whose tokens are counted for the plan
_CHOSEN = "records"  # which records of a file are used
# Of `optimization`: they change no update, or `run.seed` and `run.ratios` hold their effect.
_NO_ENTRY = ("packing", "group_by_length", "checkpoint_steps", "seed", "max_passes", "sampling")
_DERIVED = (f".{_CHOSEN}", ".images", ".image_bytes")
# Appendix C of the paper: a mini below this is too small to teach a task's format reliably
FEW_RECORDS = 1000


@dataclass(frozen=True)
class Inputs:
    """The data of a mixture, opened and cut into portions.

    Attributes:
        portions: task -> its kept training records in the order of its portions; of every task
            with training data.
        opened: `set_name` -> the records of the file.
        kept: `set_name` of every evaluation set -> indices of the records that are answered.
        dropped: descriptions of records left out because of their images.
        tokens: task -> valid tokens of a record that `model.max_length` leaves, a mean over a
            sample; empty without a tokenizer.
        truncated: a sentence for every task of whose sample `model.max_length` cuts something off.
        remarks: warnings about texts.
    """

    portions: Mapping[str, Portioned]
    opened: Mapping[str, Records]
    kept: Mapping[str, np.ndarray]
    dropped: tuple[str, ...]
    tokens: Mapping[str, float]
    truncated: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, Mapping[str, int]]:
        """Number of training records of every task and named portion."""
        return {task: portioned.sizes for task, portioned in self.portions.items()}

    @cached_property
    def evaluation(self) -> dict[str, int]:
        """`set_name` -> number of evaluation records."""
        return {key: len(indices) for key, indices in self.kept.items()}

    @cached_property
    def options(self) -> dict[str, int]:
        """`set_name` -> number of options of all evaluation records."""
        return {
            key: int(self.opened[key].option_counts()[indices].sum())
            for key, indices in self.kept.items()
        }

    def used(self, run: Run, task: str, split: str) -> np.ndarray:
        """Indices of the records of a file that a run trains on or answers."""
        if split != TRAIN:
            return self.kept[set_name(task, split)]
        return self.portions[task].of(run.portions[task])


def open_inputs(recipe: Recipe) -> Inputs:
    """Open every file of the mixture and draw the portions.

    Raises:
        DataError: broken records, references that a metric cannot score or no answer can match,
            special tokens in texts, or missing images where the recipe says
            `on_missing_image: error`.
    """
    with open_meter(recipe) as meter:
        inputs = _opened(recipe, meter, default_cache())
    if not recipe.probes_have_a_model:
        return inputs
    truncated = list(inputs.truncated)
    with open_meter(recipe.for_probes) as meter:
        if meter is None:
            return inputs
        for task in recipe.mixture.trained:
            records = open_records(task.files[TRAIN], default_cache())
            kept = inputs.portions[task.name].indices
            _, remark = _trained_tokens(recipe.for_probes, task, records, kept, meter)
            truncated += [f"of the probes: {remark}"] if remark else []
    return replace(inputs, truncated=tuple(truncated))


def _opened(recipe: Recipe, meter: Meter | None, cache: Path) -> Inputs:
    portions: dict[str, Portioned] = {}
    opened: dict[str, Records] = {}
    kept_of: dict[str, np.ndarray] = {}
    tokens: dict[str, float] = {}
    dropped: list[str] = []
    truncated: list[str] = []
    for task in recipe.mixture.tasks:
        for split, path in task.files.items():
            records = open_records(path, cache, evaluation=split != TRAIN)
            if split != TRAIN:
                _need_references(records, task.metrics_of(split))
            kept, lost = _kept(records, recipe, meter)
            opened[set_name(task.name, split)] = records
            dropped += lost
            if split != TRAIN:
                kept_of[set_name(task.name, split)] = kept
                continue
            portions[task.name] = draw_portions(kept, task.name, recipe.file.portions)
            if meter is not None:
                tokens[task.name], remark = _trained_tokens(recipe, task, records, kept, meter)
                truncated += [remark] if remark else []
    return Inputs(
        portions,
        opened,
        kept_of,
        tuple(dropped),
        tokens,
        tuple(truncated),
        need_sound_texts(recipe, cache),
    )


def _trained_tokens(
    recipe: Recipe, task: Task, records: Records, kept: np.ndarray, meter: Meter
) -> tuple[float, str | None]:
    """Mean number of tokens of a record that are trained, and what `max_length` cuts off, from a
    sample.

    Raises:
        DataError: a record of the sample cannot be trained, or `max_length` cuts off every answer.
    """
    sample = kept[:: max(1, len(kept) // TOKEN_SAMPLE)].tolist()
    lengths = sampled_lengths(recipe, records, sample, task.instruction, meter, default_cache())
    limit = recipe.model.max_length
    if problem := lengths.problem(task.name, records.source, limit):
        raise DataError(str(problem), problem.code)
    return lengths.kept / lengths.records, lengths.warning(task.name, records.source, limit)


def _need_references(records: Records, metrics: Sequence[str]) -> None:
    """Every record must have references that these metrics can score."""
    finders = [find for find in map(problem_finder, metrics) if find is not None]
    for record in records if finders else ():
        for find in finders:
            problem = find(record.references)
            if problem:
                where = f"{records.source}, record {record.number}"
                raise DataError(f"{where}: {problem}", "unusable-reference")


def _kept(records: Records, recipe: Recipe, meter: Meter | None) -> tuple[np.ndarray, list[str]]:
    rejected = None if meter is None else meter.rejected
    policy = recipe.file.on_missing_image
    kept, lost = kept_records(
        records, recipe.images, policy, rejected=rejected, confined=recipe.confined
    )
    if not len(kept):
        reason = f"; all {len(lost)} were left out, the first: {lost[0]}" if lost else ""
        raise DataError(f"{records.source}: expected at least one record{reason}", "no-records")
    return kept, lost


def write_portions(recipe: Recipe, inputs: Inputs, root: RunDir) -> None:
    """Write the manifest of record ids of every task; the runs read their portions from it."""
    for task in recipe.mixture.trained:
        portioned = inputs.portions[task.name]
        ids = open_records(task.files[TRAIN], default_cache()).ids(portioned.indices)
        path = root.portions(task.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, ids, portioned)


def small_minis(recipe: Recipe, inputs: Inputs) -> list[str]:
    """A remark on minis that teach too little, before a user pays for probes."""
    minis = {task.name: inputs.sizes[task.name]["mini"] for task in recipe.mixture.balanced}
    few = [f"{name} {count}" for name, count in minis.items() if count < FEW_RECORDS]
    if not few:
        return []
    return [
        f"minis under {FEW_RECORDS} records, which the paper advises against (Appendix C):"
        f" {', '.join(few)}; more records in them (a larger portions.mini, more data) give"
        " steadier contributions"
    ]


def warnings(recipe: Recipe, inputs: Inputs) -> list[str]:
    """Remarks on the data that a user should see before paying for a run."""
    remarks = [*inputs.remarks, *inputs.truncated]
    optimization = recipe.file.optimization
    if optimization.packing and optimization.micro_batch_size == 1:
        remarks.append(
            "optimization.packing packs the records of a micro-batch: with micro_batch_size 1 it"
            " does nothing"
        )
    remarks += _missing_sets(recipe)
    if inputs.dropped:
        remarks.append(
            f"{len(inputs.dropped)} records left out because of their images, the first:"
            f" {inputs.dropped[0]}"
        )
    return remarks


def _missing_sets(recipe: Recipe) -> list[str]:
    """What follows for tasks without a training or test set."""
    remarks = []
    untrained = [task.name for task in recipe.mixture.only_evaluated]
    if untrained:
        remarks.append(
            f"no training set for {', '.join(untrained)}: only evaluated, without a weight"
        )
    untested = [task.name for task in recipe.mixture.tasks if not task.test]
    if untested:
        remarks.append(
            f"no test set for {', '.join(untested)}: the final models will not be scored on it"
        )
    return remarks


def identity(
    recipe: Recipe,
    run: Run,
    inputs: Inputs,
    checkpoint: str,
    weights: Mapping[str, float] | None,
    images: ImageStates | None = None,
) -> dict[str, Any]:
    """Everything that determines the result of `run`, by content and never by path; `checkpoint` is
    its digest.
    """
    states = images or ImageStates(recipe.images)
    entries = {**settings_of(recipe, run, weights), "model.checkpoint": checkpoint}
    for task, split in sets_of(recipe, run):
        key = set_name(task, split)
        entries |= content_of(key, inputs.opened[key], inputs.used(run, task, split), states)
    return entries


def sets_of(recipe: Recipe, run: Run) -> list[tuple[str, str]]:
    """Task and split of every file of records that a run reads."""
    sets = []
    validation, test = set(run.validation), set(run.test)
    for name in run.tasks:
        splits = {TRAIN} if name in run.portions else set()
        splits |= {"validation"} if name in validation else set()
        splits |= set(recipe.mixture[name].test) if name in test else set()
        sets += [(name, split) for split in sorted(splits)]
    return sets


def content_of(
    key: str, records: Records, indices: np.ndarray, images: ImageStates
) -> dict[str, str]:
    """The part of an identity that follows from one file of records, of which `indices` are used;
    `key` is its `set_name`.
    """
    chosen = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
    entries = {f"tasks.{key}": records.digest, f"tasks.{key}.{_CHOSEN}": chosen}
    for kind, digest in images.entries(key, records, indices).items():
        entries[f"tasks.{key}.{kind}"] = digest
    return entries


def settings_of(recipe: Recipe, run: Run, weights: Mapping[str, float] | None) -> dict[str, Any]:
    """The part of an identity that follows from the recipe and the weights."""
    file = recipe.file
    no_effect = {  # on the result of a run
        "model": {"checkpoint", "gradient_checkpointing", "compile"},
        "optimization": {"micro_batch_size", *_NO_ENTRY},
        "generation": {"batch_size"},
        "portions": {"mini", "large"} if run.by_fraction else set(),
    }
    sections = {
        "model": recipe.model,
        "optimization": file.optimization,
        "generation": file.generation,
        "portions": file.portions,
    }
    entries: dict[str, Any] = {}
    if file.optimization.normalizer == "per_device":  # the loss of every micro-batch on every rank
        no_effect["optimization"].remove("micro_batch_size")
        entries["resources.ranks"] = recipe.resources.processes
    for name, section in sections.items():
        fields = section.model_dump(mode="json", exclude=no_effect[name])
        entries |= {f"{name}.{field}": value for field, value in fields.items()}
    entries |= {
        "on_missing_image": file.on_missing_image,
        "code": CODE_VERSION,
        "run.weighting": run.weighting,
        "run.seed": run.seed,
        "run.portions": dict(run.portions),
    }
    options = file.weightings.get(run.weighting)
    if options:
        entries[f"weightings.{run.weighting}"] = dict(options)
    if weights is not None:
        entries["weights"] = dict(weights)
    if run.sampled is not None:
        entries["run.ratios"] = dict(run.sampled)
    for name in run.tasks:
        # Not `tasks.<name>.instruction`: that is the entry of a test split of this name.
        entries[f"instruction.{name}"] = recipe.mixture[name].instruction
    if chosen := _chosen(recipe, run):
        entries["choose"] = chosen
    return entries


def _chosen(recipe: Recipe, run: Run) -> dict[str, str]:
    """How answers are chosen, of every task that this run answers by choosing."""
    chosen: dict[str, str] = {}
    for name in (*run.validation, *run.test):
        choose = recipe.mixture[name].choose
        if choose is not None:
            chosen[name] = choose
    return chosen


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each entry of two identities that differs.

    Which records are used, and their images, follow from other entries too: they are listed where
    nothing else differs. `digest_images` may have been switched in between, so only what both hold
    is compared.
    """
    lines = [
        f"{key}: was {_short(before.get(key))}, is {_short(now.get(key))}"
        for key in _changed(before, now)
    ]
    # Rows are shuffled from the order of the tasks on, so another order is another training.
    first, second = map(_order, (before, now))
    if first != second and sorted(first) == sorted(second):
        lines.append(f"order of the tasks: was {_short(first)}, is {_short(second)}")
    return lines


def identity_digest(identity: Mapping[str, Any]) -> str:
    """The same text for all identities without `differences`."""
    entries = {key: value for key, value in identity.items() if not key.endswith(".image_bytes")}
    text = json.dumps([entries, _order(identity)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _order(identity: Mapping[str, Any]) -> list[str]:
    """The trained tasks, in their order; empty for an entry of another form, which differs."""
    portions = identity.get("run.portions")
    return list(portions) if isinstance(portions, Mapping) else []


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    stated = []
    derived = []
    for key in {**before, **now}:
        if before.get(key) == now.get(key):
            continue
        if not key.endswith(_DERIVED):
            stated.append(key)
        elif key in before and key in now:
            derived.append(key)
    return stated or derived


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
