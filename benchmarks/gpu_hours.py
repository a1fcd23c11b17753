"""What the paper's tables cost, in GPU-hours: arithmetic on tokens and FLOPs, nothing of it
measured.

    python benchmarks/gpu_hours.py

The trainings of a table are those that cotbal plans (`cotbal.recipe.runs`). One training costs

    6 N D + 2 V P   FLOPs at UTILISATION of the peak,

N: parameters of language model and projector; D: tokens, 576 an image among them; V: parameters of
the vision tower, which is frozen; P: its patches. An answer costs 2 N a token of the prompt at the
same utilisation, and 2 N a written token at the much lower one of DECODING. `docs/reproduce.md`
shows the result (`benchmarks/reproduce_page.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cotbal.benchmarks.large.sets import data_sets
from cotbal.recipe.mixture import Mixture, Task
from cotbal.recipe.runs import Run, curve_runs, final_run, plan_probes, seen, single_task_runs
from large_scale import LENGTHS

PEAK = 312e12  # FLOP/s of an A100 in bfloat16, dense (NVIDIA's data sheet)
GPUS = 8  # published script: 16 rows per GPU, no accumulation, global batch 128
UTILISATION = 0.25  # see `anchor`
DECODING = 0.02  # 16 answers side by side: every step reads all weights for 16 tokens
ALONE = 0.0025  # lmms-eval asks one question at a time
IMAGE = 576  # (336 / 14)^2 tokens
PATCHES = IMAGE + 1  # and the class token
TOWER = 0.304e9  # CLIP ViT-L/14-336
FRAME = 50  # tokens of a record beside its turns: system sentence 35, instruction 11, ends
ROLES = 8  # tokens of a turn beside question and answer
CHARACTERS = 4  # of English to a token
M3IT_INSTRUCTION = 20  # tokens
OPTIMIZER_BYTES = 16  # a trained parameter: weight, gradient and two moments of Adam, float32


@dataclass(frozen=True)
class Model:
    """A language model with its projector; parameters of each."""

    language: float
    projector: float

    @property
    def parameters(self) -> float:
        return self.language + self.projector


MODELS = {"7B": Model(6_738_415_616, 20_979_712), "13B": Model(13_015_864_320, 31_467_520)}


@dataclass(frozen=True)
class Data:
    """One task: how many records, and how long they are in tokens (assumed, but for what a turn
    count says).

    Attributes:
        records, turns: of training; turns in all.
        question, answer: tokens of one turn.
        validation, test: evaluation records.
        images: a record.
        group: whose weight it shares.
        balanced: False for a task without evaluation.
    """

    records: int
    turns: int
    question: int
    answer: int
    validation: int = 0
    test: int = 0
    images: int = 1
    group: str | None = None
    balanced: bool = True

    @property
    def tokens(self) -> float:
        """Of a training record, images included."""
        turn = self.question + self.answer + ROLES
        return IMAGE * self.images + FRAME + turn * self.turns / self.records


ACADEMIC = {  # records, turns and evaluation sizes: docs/benchmarks.md
    "ShareGPT4V": Data(98_000, 98_000, 12, 200, 2_000, 2_000),
    "RefCOCO-caption": Data(41_000, 201_136, 40, 8, 6_384, 1_975 + 1_810 + 5_023),
    "VQAv2": Data(82_783, 443_757, 8, 2, 20_000, 20_000),
    "GQA": Data(72_140, 943_000, 11, 2, 20_000, 12_578),
    "ChartQA": Data(18_317, 28_299, 18, 4, 1_920, 2_500),
    "OCRVQA": Data(80_000, 386_000, 10, 6, 20_000, 100_000),
    "RefCOCO-bbox": Data(41_000, 201_136, 25, 25, 15_730, 5_657 + 5_095 + 9_602),
    "ShareGPT": Data(41_000, 41_000, 300, 1_000, images=0, balanced=False),
}
CHAT = {
    "conversation": Data(56_700, 255_000, 12, 60, 30, 17),
    "detail": Data(23_200, 23_200, 12, 150, 30, 15),
    "complex_reasoning": Data(76_600, 76_600, 20, 180, 30, 28),
}
ZERO_SHOT = {
    "TextVQA": 5_000,
    "POPE": 9_000,
    "MME": 2_374,
    "SQA": 4_241,
    "MMBench": 4_329,
    "SEED-IMG": 14_233,
}
OPEN_ENDED = {"MM-Vet": 218, "LLaVA-W": 60}
# questions of VQAv2 that `cotbal submission` has a model answer, outside of every other line
TEST_DEV = 107_394
SHORT_ANSWER, OPEN_ANSWER, ZERO_SHOT_QUESTION = 3, 200, 100  # tokens
METHODS = ("ew", "tla", "rlw", "dwa", "igbv1", "cotbal")
PARTS, TEMPERATURES, DIFFICULTIES = 4, 2, 1  # models of the ablation beside EW and CoTBal


def large() -> dict[str, Data]:
    """The seventeen sets of M3IT, texts of the lengths that `large_scale` writes."""
    sizes = {}
    for data_set in data_sets():
        question, answer = LENGTHS[data_set.config]
        test = data_set.test or data_set.validation // 2
        validation = data_set.validation if data_set.test else data_set.validation - test
        if data_set.config == "coco":  # one sample per image
            validation = test = 5_000
        sizes[data_set.name] = Data(
            data_set.train,
            data_set.train,
            M3IT_INSTRUCTION + question // CHARACTERS,
            max(1, answer // CHARACTERS),
            validation,
            test,
            group=data_set.group,
        )
    return sizes


def mixture(data: Mapping[str, Data]) -> Mixture:
    """The tasks as cotbal plans them; no file is read."""
    nowhere = Path()
    return Mixture(
        tuple(
            Task(
                name,
                nowhere,
                nowhere,
                {"test": nowhere},
                "exact_match",
                (),
                group=d.group,
                balanced=d.balanced,
            )
            for name, d in data.items()
        )
    )


@dataclass(frozen=True)
class Cost:
    """What some trainings and evaluations take.

    Attributes:
        trainings: how many.
        trained: tokens, all epochs.
        answers: how many.
        training, evaluation: GPU-hours.
    """

    trainings: int
    trained: float
    answers: int
    training: float
    evaluation: float

    @property
    def total(self) -> float:
        return self.training + self.evaluation

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


NOTHING = Cost(0, 0.0, 0, 0.0, 0.0)


def hours(flops: float, utilisation: float) -> float:
    """GPU-hours of so many FLOPs."""
    return flops / (PEAK * utilisation) / 3600


def trained(
    data: Mapping[str, Data], portions: Mapping[str, int], model: Model, epochs: int
) -> Cost:
    """One training on so many records of every task: 6 N D + 2 V P."""
    tokens = epochs * sum(n * data[name].tokens for name, n in portions.items())
    images = epochs * sum(n * data[name].images for name, n in portions.items())
    flops = 6 * model.parameters * tokens + 2 * TOWER * PATCHES * images
    return Cost(1, tokens, 0, hours(flops, UTILISATION), 0.0)


def answered(
    number: int, question: float, answer: float, model: Model, decoding: float = DECODING
) -> Cost:
    """So many answers to questions about one image each: 2 N a token, and the vision tower."""
    prompt = 2 * model.parameters * (IMAGE + FRAME + question) + 2 * TOWER * PATCHES
    per_answer = hours(prompt, UTILISATION) + hours(2 * model.parameters * answer, decoding)
    return Cost(0, 0.0, number, 0.0, number * per_answer)


def of_runs(
    runs: Sequence[Run],
    data: Mapping[str, Data],
    model: Model,
    *,
    large_portion: str = "1",
    epochs: int = 1,
) -> Cost:
    """All of these runs: their trainings, and the answers to the validation and test sets that they
    are scored on.
    """
    rates = {"mini": Fraction(1, 32), "large": Fraction(large_portion), "full": Fraction(1)}
    total = NOTHING
    for run in runs:
        sizes = {
            n: {p: int(data[n].records * rate) for p, rate in rates.items()} for n in run.portions
        }
        if run.portions:
            records = {name: seen(sizes[name], portion) for name, portion in run.portions.items()}
            total += trained(data, records, model, epochs)
        for name in run.validation:
            total += answered(data[name].validation, data[name].question, data[name].answer, model)
        for name in run.test:
            total += answered(data[name].test, data[name].question, data[name].answer, model)
    return total


def zero_shot(models: int, model: Model) -> Cost:
    """The eight columns of Table 2 for so many models, one question at a time."""
    short = answered(sum(ZERO_SHOT.values()), ZERO_SHOT_QUESTION, SHORT_ANSWER, model, ALONE)
    long = answered(sum(OPEN_ENDED.values()), ZERO_SHOT_QUESTION, OPEN_ANSWER, model, ALONE)
    total = NOTHING
    for _ in range(models):
        total = total + short + long
    return total


def test_dev(models: int, model: Model) -> Cost:
    """The answers of so many models to VQAv2 test-dev, questions and answers as long as those of
    its training.
    """
    vqa = ACADEMIC["VQAv2"]
    return answered(models * TEST_DEV, vqa.question, vqa.answer, model)


def items() -> dict[str, Cost]:
    """What every table costs by itself, under the names of the page; probes and models may be
    shared between tables.
    """
    seven, thirteen = MODELS["7B"], MODELS["13B"]
    academic, chat, m3it = mixture(ACADEMIC), mixture(CHAT), mixture(large())
    probes, stl = list(plan_probes(academic)), list(single_task_runs(academic, whole=True))
    finals = [final_run(academic, method) for method in METHODS]
    compared = [*probes, *stl, *finals]
    variants = [
        final_run(academic, "cotbal", name=f"variant {i}")
        for i in range(PARTS + TEMPERATURES + DIFFICULTIES)
    ]
    alone = [
        run
        for run in plan_probes(academic, "standard", "precise")
        if run.name.startswith("solo-mini:")
    ]
    large_probes = list(plan_probes(m3it))
    large_all = [
        *large_probes,
        *single_task_runs(m3it, whole=False),
        *(final_run(m3it, m) for m in METHODS),
    ]
    chat_all = [*plan_probes(chat, "simple"), *(final_run(chat, m) for m in METHODS)]
    curve = curve_runs(academic, ("1/32", "1/16", "1/8", "1/4", "1/2", "1"), alone=True)
    return {
        "Table 10: probes and weights, 7B": of_runs(probes, ACADEMIC, seven),
        "Table 1: seven methods, 7B": of_runs(compared, ACADEMIC, seven),
        "the same with 13B": of_runs(compared, ACADEMIC, thirteen),
        "VQAv2 test-dev: seven models of Table 1, 7B": test_dev(1 + len(METHODS), seven),
        "VQAv2 test-dev: three models, 13B": test_dev(3, thirteen),
        "VQAv2 test-dev: seven models of Table 12, 7B": test_dev(len(variants), seven),
        "Table 2: zero-shot, six models, 7B": zero_shot(6, seven),
        "Tables 5 and 12: beyond Table 1, 7B": of_runs([*variants, *alone], ACADEMIC, seven),
        "Fig. 1b: score against fraction, 7B": of_runs(curve, ACADEMIC, seven),
        "Chat Benchmark: seven methods, 7B": of_runs(chat_all, CHAT, seven, epochs=3),
        "Table 11: probes and weights, Large, 7B": of_runs(
            large_probes, large(), seven, large_portion="1/4"
        ),
        "Large Benchmark: seven methods, 7B": of_runs(
            large_all, large(), seven, large_portion="1/4"
        ),
    }


def anchor() -> tuple[float, float]:
    """GPU-hours of LLaVA-1.5's own tuning by this formula, and as its README has it (about 10 hours
    on 8 A100).

    665,298 records, 40,688 of them text; the length of those with images is assumed as for the
    others here.
    """
    mix = {"images": Data(624_610, 624_610, 20, 170), "text": ACADEMIC["ShareGPT"]}
    return (
        trained(mix, {"images": 624_610, "text": 40_688}, MODELS["7B"], 1).training,
        10.0 * GPUS,
    )


def memory(model: Model) -> float:
    """GB that full training holds whatever the batch: parameters, gradients and Adam in float32,
    and the tower.
    """
    return (OPTIMIZER_BYTES * model.parameters + 2 * TOWER) / 1e9


def loading(model: Model) -> float:
    """GB of CPU memory that a rank holds before the model is sharded: what is trained in
    float32, and the tower.
    """
    return (4 * model.parameters + 2 * TOWER) / 1e9


def cost_table() -> list[str]:
    """The rows of the table in docs/reproduce.md."""
    rows = [
        (
            "| GPU-hours of | trainings | tokens, 10⁶ | training | answers | evaluation | sum |"
            " yours |"
        ),
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, c in items().items():
        rows.append(
            f"| {name} | {c.trainings} | {c.trained / 1e6:,.0f} | {c.training:,.0f} | {c.answers:,}"
            f" | {c.evaluation:,.0f} | {c.total:,.0f} | |"
        )
    return rows


if __name__ == "__main__":
    print("\n".join(cost_table()))
    print(
        "LLaVA-1.5-7B's tuning, GPU-hours by this formula and as reported: {:.0f}, {:.0f}".format(
            *anchor()
        )
    )
    print(
        ", ".join(
            f"{name}: {memory(model):.0f} GB, {memory(model) / GPUS:.0f} a GPU"
            for name, model in MODELS.items()
        )
    )
