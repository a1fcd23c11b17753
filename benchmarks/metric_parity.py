"""Do the metrics agree with implementations that others wrote? A table of the largest differences,
for drawn answers.

    pip install cotbal nltk rapidfuzz scikit-learn loguru
    pip install --no-deps pycocoevalcap lmms-eval
    python benchmarks/metric_parity.py

Only pycocoevalcap and nltk are part of the test extra (`tests/unit/metrics/test_agreement.py` holds
CIDEr and GLEU against them); lmms-eval asks for fifty others. Golden values in `tests/unit/metrics`
keep what was found here.
"""

from __future__ import annotations

import importlib.metadata
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np

from cotbal.metrics.vqa_soft import normalise
from cotbal.scores.matrix import Measured
from cotbal.scores.measure import measure

N = 2000
WORDS = """
    a the an frog Frog frogs, two 2 none seven dont don't couldnt've somebody'd hes man's t-shirt red/blue e.g. 3.5
    1,000 . ? not No Yes [ größe ☃
"""
NUMBERS = "0 0.0 14 14.7 14.71 -3 12% 0.12 0.125 1e3 1,000 nan inf % yes Yes yes. 14cm"
CATEGORIES = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
Row = tuple[
    str, str, int, float, float
]  # metric, other implementation, n, mean of ours, largest difference


def main() -> None:
    packages = ("pycocoevalcap", "nltk", "rapidfuzz", "scikit-learn", "lmms-eval", "numpy")
    print("Versions:", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages))
    print("\n| metric | against | n | score | largest difference |\n|---|---|---|---|---|")
    for check in (cider, gleu, anls, relaxed, vqa, pope, mme, choice):
        for metric, other, n, score, difference in check(random.Random(0)):
            print(f"| `{metric}` | {other} | {n} | {score:.4g} | {difference:.2g} |")


def cider(draw: random.Random) -> Iterator[Row]:
    from pycocoevalcap.cider.cider import Cider

    answers, references = (
        texts(draw, 1, 12),
        [texts(draw, 1, 12, draw.randint(1, 5)) for _ in range(N)],
    )
    score, items = Cider().compute_score(
        dict(enumerate(references)), {i: [text] for i, text in enumerate(answers)}
    )
    ours = measure("cider", answers, references)
    yield items_of("cider", "pycocoevalcap, items", ours, items)
    yield total_of("cider", "pycocoevalcap, corpus", ours, score)


def gleu(draw: random.Random) -> Iterator[Row]:
    from nltk.translate.gleu_score import corpus_gleu, sentence_gleu

    answers, references = (
        texts(draw, 0, 9),
        [texts(draw, 0, 9, draw.randint(1, 3)) for _ in range(N)],
    )
    said, true = (
        [text.split() for text in answers],
        [[text.split() for text in accepted] for accepted in references],
    )
    items = [sentence_gleu(accepted, text) for accepted, text in zip(true, said, strict=True)]
    yield items_of("gleu", "nltk, sentences", measure("gleu", answers, references), items)
    yield total_of(
        "gleu_corpus",
        "nltk, corpus",
        measure("gleu_corpus", answers, references),
        corpus_gleu(true, said),
    )


def anls(draw: random.Random) -> Iterator[Row]:
    from rapidfuzz.distance import Levenshtein

    def text(letters: str) -> str:
        return "".join(draw.choices(letters, k=draw.randint(1, 12)))

    def similarity(answer: str, reference: str) -> float:
        return Levenshtein.normalized_similarity(answer.lower(), reference, score_cutoff=0.5)

    answers = [text("abcD") for _ in range(N)]
    references = [[text("abcd") for _ in range(draw.randint(1, 3))] for _ in answers]
    pairs = zip(answers, references, strict=True)
    items = [max(similarity(answer, one) for one in accepted) for answer, accepted in pairs]
    yield items_of("anls", "rapidfuzz", measure("anls", answers, references), items)


def relaxed(draw: random.Random) -> Iterator[Row]:
    lmms = theirs("tasks/chartqa/utils.py").relaxed_correctness
    answers, truth = draw.choices(NUMBERS.split(), k=N), draw.choices(NUMBERS.split(), k=N)
    items = [float(lmms(answer, true)) for answer, true in zip(answers, truth, strict=True)]
    yield items_of(
        "relaxed_accuracy",
        "lmms-eval",
        measure("relaxed_accuracy", answers, one_each(truth)),
        items,
    )


def vqa(draw: random.Random) -> Iterator[Row]:
    server = theirs("tasks/_task_utils/vqa_eval_metric.py").EvalAIAnswerProcessor()
    known = [*server.CONTRACTIONS, *server.CONTRACTIONS.values(), *server.NUMBER_MAP]
    odd = texts(draw, 0, 5) + [
        f"{sign}{x}{sign} {x}{sign}y" for sign in server.PUNCTUATIONS for x in "ab1"
    ]
    same = Measured(np.array([float(normalise(text) == server(text)) for text in known + odd]))
    yield items_of(
        "vqa_soft", "lmms-eval, normalised texts that are the same", same, [1.0] * len(same.values)
    )
    answers = texts(draw, 1, 1)
    references = [draw.choices(texts(draw, 1, 1, 4), k=10) for _ in answers]
    items = []
    for answer, accepted in zip(answers, references, strict=True):
        said, people = server(answer), [server(one) for one in accepted]
        others = [people[:i] + people[i + 1 :] for i in range(10)]
        items.append(np.mean([min(1, rest.count(said) / 3) for rest in others]))
    ours = measure("vqa_soft", answers, references)
    yield items_of("vqa_soft", "lmms-eval's texts, leaving each person out", ours, items)


def pope(draw: random.Random) -> Iterator[Row]:
    from sklearn.metrics import f1_score

    names = draw.choices(("adversarial", "popular", "random"), weights=(1, 2, 3), k=N)
    said, true = draw.choices((0, 1), k=N), draw.choices((0, 1), k=N)
    places = [[i for i in range(N) if names[i] == name] for name in set(names)]
    mean = np.mean(
        [f1_score([true[i] for i in indices], [said[i] for i in indices]) for indices in places]
    )
    answers, references = (
        [("No", "Yes")[x] for x in said],
        one_each([("no", "yes")[x] for x in true]),
    )
    records = [{"details": {"category": name}} for name in names]
    yield total_of(
        "pope_f1",
        "scikit-learn, mean over categories",
        measure("pope_f1", answers, references, records),
        mean,
    )
    yield total_of(
        "pope_f1",
        "scikit-learn, one category",
        measure("pope_f1", answers, references),
        f1_score(true, said),
    )


def mme(draw: random.Random) -> Iterator[Row]:
    lmms = theirs("tasks/mme/utils.py")
    lmms.eval_logger.disable(lmms.__name__)
    docs = [
        {"category": name, "question_id": f"{name}/{i}", "answer": answer}
        for name in CATEGORIES
        for i in range(draw.randint(5, 50))
        for answer in ("Yes", "No")
    ]
    answers = draw.choices(("Yes", "No", "yes, it is", "no.", "Not at all", "maybe"), k=len(docs))
    results = [
        lmms.mme_process_results(doc, [text]) for doc, text in zip(docs, answers, strict=True)
    ]
    score = lmms.mme_aggregate_results([next(iter(result.values())) for result in results])
    records = [
        {"images": [doc["question_id"]], "details": {"category": doc["category"]}} for doc in docs
    ]
    ours = measure("mme", answers, one_each([doc["answer"] for doc in docs]), records)
    yield total_of("mme", "lmms-eval, sum over ten categories", ours, score)


def choice(draw: random.Random) -> Iterator[Row]:
    lmms = theirs("tasks/seedbench/utils.py").seed_process_result
    answers = [draw.choice("AB") + draw.choice(("", ".", ". frog", ")")) for _ in range(N)]
    truth = draw.choices("AB", k=N)
    docs = [{"answer": true, "data_type": "image", "question_id": 0} for true in truth]
    results = [lmms(doc, [answer])["seed_image"] for doc, answer in zip(docs, answers, strict=True)]
    items = [float(result["pred"] == result["answer"]) for result in results]
    yield items_of(
        "multiple_choice",
        "lmms-eval, SEED-Bench",
        measure("multiple_choice", answers, one_each(truth)),
        items,
    )
    questions = [draw.randrange(N // 3) for _ in range(N)]
    hits: dict[int, list[float]] = defaultdict(list)
    for question, item in zip(questions, items, strict=True):
        hits[question].append(item)
    ours = measure(
        "multiple_choice",
        answers,
        one_each(truth),
        [{"details": {"rotation_of": q}} for q in questions],
    )
    # The evaluator of MMBench in lmms-eval cannot be called without a judge.
    yield total_of(
        "multiple_choice",
        "definition of the circular rule",
        ours,
        sum(map(all, hits.values())) / len(hits),
    )


def items_of(metric: str, other: str, ours: Measured, items: Sequence[float]) -> Row:
    return (
        metric,
        other,
        len(items),
        ours.score,
        float(np.abs(ours.values - np.asarray(items, float)).max()),
    )


def total_of(metric: str, other: str, ours: Measured, score: float) -> Row:
    return metric, other, len(ours.values), ours.score, abs(ours.score - score)


def one_each(references: Sequence[str]) -> list[list[str]]:
    return [[reference] for reference in references]


def texts(draw: random.Random, shortest: int, longest: int, n: int = N) -> list[str]:
    return [
        " ".join(draw.choices(WORDS.split(), k=draw.randint(shortest, longest))) for _ in range(n)
    ]


def theirs(path: str) -> ModuleType:
    """A file of lmms-eval, loaded without the rest of it."""
    package = find_spec("lmms_eval")
    assert package is not None
    assert package.submodule_search_locations is not None
    spec = spec_from_file_location("theirs", Path(package.submodule_search_locations[0]) / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
