"""Runs and probe plans: which trainings feed the equations, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from cotbal.balance.probes import BASE, MINI, Difficulty, Form, full_run, solo_mini_run, solo_run
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.ratios import allotted

Portion = Literal["none", "mini", "large", "full"]
FRACTION, ALONE = "fraction", "alone"  # runs of the curve, see `curve_runs`
UNTRAINED = "base-checkpoint"  # see `untrained_runs`
UNTRAINED_TRIAL = f"trial:{UNTRAINED}"  # see `untrained_trials`


@dataclass(frozen=True)
class Run:
    """Train on these portions with this weighting, then answer these validation and test sets.

    Attributes:
        name: `mini`, `full:<unit>`, `base`, `solo:<unit>`, `solo-mini:<unit>`, `stl:<task>`,
            `fraction:<fraction>`, `alone:<task>:<fraction>`, `trial:<number>`, `base-checkpoint`,
            `trial:base-checkpoint`, `ratios:<goal>`, or another final run's name.
        portions: task -> portion, or a fraction as text, such as `1/8`; a task that is
            not named sees `none`. Without any, the base checkpoint answers.
        weighting: `ew`, or a method of `cotbal.weightings`.
        validation: tasks whose validation set it answers.
        test: tasks whose test splits it answers.
        seed: seed of the order of the data and of every random draw.
        ratios: task -> sampling ratio, positive, of which only proportions matter, relative to
            `sampling`; None for equal ones.
        sampling: task -> ratio that the recipe samples it by; None shows every record once per
            epoch.
    """

    name: str
    portions: Mapping[str, str]
    weighting: str
    validation: tuple[str, ...]
    test: tuple[str, ...]
    seed: int
    ratios: Mapping[str, float] | None = None
    sampling: Mapping[str, float] | None = None

    @property
    def sampled(self) -> Mapping[str, float] | None:
        """Task -> ratio that its records are sampled by, all in all; None shows each once."""
        return sampled_by(self.ratios, self.sampling)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task that it trains on or answers."""
        return tuple(dict.fromkeys((*self.portions, *self.validation, *self.test)))

    @property
    def by_fraction(self) -> bool:
        """Whether it sees fractions alone, so that the sizes of mini and large do not matter to
        it."""
        seen = set(self.portions.values())
        return bool(seen) and seen.isdisjoint(get_args(Portion))

    def to_json(self) -> dict[str, Any]:
        """All fields, as the job file holds them."""
        fields = vars(self)
        mappings = {
            name: dict(value) for name, value in fields.items() if isinstance(value, Mapping)
        }
        return {**fields, **mappings}

    @classmethod
    def from_json(cls, content: Any) -> Run:
        """The run that `to_json` wrote.

        Raises:
            TypeError, ValueError: the content has another form.
        """
        from pydantic import TypeAdapter  # commands that read no job file do without

        # A dataclass rejects names that it lacks, pydantic values of other types.
        return TypeAdapter(cls).validate_python(vars(cls(**content)))


def sampled_by(
    ratios: Mapping[str, float] | None, sampling: Mapping[str, float] | None
) -> Mapping[str, float] | None:
    """The ratios of a run and those of its recipe together; see `Run.sampled`."""
    if not ratios or not sampling:
        return ratios or sampling
    return {task: ratio * sampling[task] for task, ratio in ratios.items()}


def plan_probes(
    mixture: Mixture,
    form: Form = "standard",
    difficulty: Difficulty = "real",
    seeds: Sequence[int] = (0,),
    replicates: int = 1,
) -> tuple[Run, ...]:
    """The runs whose scores feed the equations, seed by seed, then the replicates.

    `standard` (Section 3.2): one on all minis, and for each unit one on its large portion plus the
    minis of all others, T+1 runs. With `precise` difficulty (Eq. 17), also each unit alone on its
    large portion and on its mini. `simple` (Eq. 15, 16): the base checkpoint, which is not trained,
    and each unit alone on its large portion and mini.

    Probes weigh all tokens equally (EW): the weights are what they are made to find.

    Args:
        replicates: trainings of the cheapest run of the form (`mini`, or every `solo-mini:<unit>`)
            with the seeds that follow a single seed; they show the noise of training. Several
            seeds show it themselves.
    """
    runs = [run for seed in seeds for run in _of_one_seed(mixture, form, difficulty, seed)]
    if len(seeds) > 1:
        return tuple(runs)
    cheapest = [run for run in runs if is_replicated(run.name, form)]
    for k in range(1, replicates):
        runs += [replace(run, seed=run.seed + k) for run in cheapest]
    return tuple(runs)


def is_replicated(name: str, form: Form) -> bool:
    """Whether a run is of the cheapest kind that the form trains."""
    return name == MINI if form == "standard" else name.startswith(solo_mini_run(""))


def _of_one_seed(mixture: Mixture, form: Form, difficulty: Difficulty, seed: int) -> list[Run]:
    if form == "simple":
        return _simple(mixture, seed)
    runs = _standard(mixture, seed)
    if difficulty == "precise":
        for unit in mixture.units:
            runs += _alone(mixture, unit, _names(mixture.members(unit)), seed)
    return runs


def _standard(mixture: Mixture, seed: int) -> list[Run]:
    return [
        _probe(mixture, MINI, None, seed),
        *(_probe(mixture, full_run(u), u, seed) for u in mixture.units),
    ]


def _simple(mixture: Mixture, seed: int) -> list[Run]:
    everything = _names(mixture.balanced)
    base = Run(BASE, {}, "ew", everything, (), seed)
    return [
        base,
        *(run for unit in mixture.units for run in _alone(mixture, unit, everything, seed)),
    ]


def _probe(mixture: Mixture, name: str, unit: str | None, seed: int) -> Run:
    portions: dict[str, str] = {
        task.name: "large" if task.unit == unit else "mini" for task in mixture.balanced
    }
    return Run(name, portions, "ew", tuple(portions), (), seed)


def _alone(mixture: Mixture, unit: str, validation: tuple[str, ...], seed: int) -> list[Run]:
    members = _names(mixture.members(unit))
    return [
        # Its test sets too: where the unit is one task and large is all of it, this is the
        # single-task baseline (STL).
        Run(solo_run(unit), dict.fromkeys(members, "large"), "ew", validation, members, seed),
        Run(solo_mini_run(unit), dict.fromkeys(members, "mini"), "ew", members, (), seed),
    ]


def single_task_runs(
    mixture: Mixture, whole: bool, form: Form = "standard", seed: int = 0
) -> tuple[Run, ...]:
    """STL: for every balanced task one model trained on all of that task alone, scored on its test
    splits.

    Args:
        whole: the large portion is all of a task; then the run `solo:<task>` of the simple form and
            of the precise difficulty is the same training, and is taken.
    """
    everything = _names(mixture.balanced)
    runs = []
    for task in mixture.balanced:
        if whole and mixture.members(task.unit) == (task,):
            validation = everything if form == "simple" else (task.name,)
            runs.append(_alone(mixture, task.unit, validation, seed)[0])
        else:
            name, tested = f"stl:{task.name}", (task.name,)
            runs.append(Run(name, {task.name: "full"}, "ew", (), tested, seed))
    return tuple(runs)


def final_run(mixture: Mixture, weighting: str, seed: int = 0, name: str | None = None) -> Run:
    """The training that the weights are for: every task with training data in full, scored on the
    test splits, also those of tasks that are only evaluated.
    """
    trained = _names(mixture.trained)
    tests = (*trained, *(task.name for task in mixture.only_evaluated if task.test))
    return Run(name or weighting, dict.fromkeys(trained, "full"), weighting, (), tests, seed)


def untrained_runs(mixture: Mixture, seed: int = 0) -> tuple[Run, ...]:
    """The base checkpoint on the test splits of the tasks that are only evaluated: the scores that
    training may lower; none where no such task has a test split.
    """
    tests = tuple(task.name for task in mixture.only_evaluated if task.test)
    return (Run(UNTRAINED, {}, "ew", (), tests, seed),) if tests else ()


def untrained_trials(mixture: Mixture, seed: int = 0) -> tuple[Run, ...]:
    """The same on their validation sets, for trials."""
    names = tuple(task.name for task in mixture.only_evaluated if task.validation)
    return (Run(UNTRAINED_TRIAL, {}, "ew", names, (), seed),) if names else ()


def curve_runs(
    mixture: Mixture, fractions: Sequence[str], alone: bool, seed: int = 0
) -> tuple[Run, ...]:
    """Score against the fraction of the training data (Fig. 1b): one training with equal weights
    (EW) per fraction.

    It sees the same share of every balanced task, the first records of the nested order of the
    portions, so that a smaller fraction is part of a larger one and the fraction `portions.mini`
    is the mini; scored on the validation sets.

    Args:
        fractions: texts of fractions, as `str(Fraction)` writes them.
        alone: also, for every task and fraction, a training on that task alone, scored on its own
            validation set.
    """
    names = _names(mixture.balanced)
    runs = [
        Run(f"{FRACTION}:{a}", dict.fromkeys(names, a), "ew", names, (), seed) for a in fractions
    ]
    if alone:
        runs += [
            Run(f"{ALONE}:{n}:{a}", {n: a}, "ew", (n,), (), seed) for n in names for a in fractions
        ]
    return tuple(runs)


def trial_runs(
    mixture: Mixture, seeds: Sequence[int], fraction: str, weighting: str
) -> tuple[Run, ...]:
    """Trainings that differ in the weights of their tasks, one per seed of `seeds`, in its order.

    All see the same fraction of every task with training data, those of one seed in the same order,
    and answer every validation set of the mixture.

    Args:
        weighting: the method that trains with the weights of the trial.
    """
    portions = dict.fromkeys(_names(mixture.trained), fraction)
    return tuple(
        Run(trial_name(number), portions, weighting, _names(mixture.scored), (), seed)
        for number, seed in enumerate(seeds)
    )


def trial_name(number: int) -> str:
    """The name of a trial, counted from 0."""
    return f"trial:{number}"


def place_on_curve(name: str) -> tuple[str | None, Fraction]:
    """The task that a run of the curve was trained on alone (None: all of them), and the fraction,
    from its name.
    """
    kind, *task, fraction = name.split(":")
    return (task[0] if kind == ALONE else None), Fraction(fraction)


def portion_size(n: int, rate: Fraction) -> int:
    """Number of records in a portion of `n` records: floor(n * rate), but at least one."""
    return min(n, max(1, int(n * rate)))


def seen(sizes: Mapping[str, int], portion: str) -> int:
    """Number of a task's records in a portion or a fraction; `sizes` holds those of the named
    portions.
    """
    return sizes[portion] if portion in sizes else portion_size(sizes["full"], Fraction(portion))


def cost(run: Run, sizes: Mapping[str, Mapping[str, int]]) -> int:
    """Training records that `run` sees in an epoch; `sizes[task][portion]` are those of every
    task."""
    return sum(drawn(run, sizes).values())


def drawn(run: Run, sizes: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Task -> training records that `run` sees in an epoch, repeated ones counted repeatedly."""
    counts = held(run, sizes)
    return counts if run.sampled is None else allotted(run.sampled, counts)


def held(run: Run, sizes: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Task -> different training records in its portion, for the tasks that `run` trains on."""
    return {
        task: seen(sizes[task], portion)
        for task, portion in run.portions.items()
        if portion != "none"
    }


def _names(tasks: Sequence[Task]) -> tuple[str, ...]:
    return tuple(task.name for task in tasks)
