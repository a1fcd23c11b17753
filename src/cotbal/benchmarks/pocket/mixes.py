"""What the training data of `pocket` holds: `equal`, `skewed` as people's mixtures are, or
`dominated` by one large data set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Any

from cotbal.benchmarks.pocket.drawings import KIND_OF
from cotbal.benchmarks.pocket.scenes import Scene
from cotbal.benchmarks.pocket.tasks import VISUAL_TASKS, described
from cotbal.benchmarks.releases.conversation import Asked
from cotbal.errors import CotbalError

EQUAL, SKEWED, DOMINATED = "equal", "skewed", "dominated"
LARGEST = "vqa"  # of the dominated mix
TASKS = (*(task.name for task in VISUAL_TASKS), "chat")
Ask = Callable[[Any, Random], Asked]
Record = dict[str, Any]


@dataclass(frozen=True)
class TaskData:
    """How a task differs from the equal mix.

    Attributes:
        share: fraction of the images of the training split that the task has a record of.
        copies: how often every training record is there.
        wrong: fraction of the training records that have the answer of another one.
        ask: question and answer in all splits; None for those of the task.
    """

    share: Fraction = Fraction(1)
    copies: int = 1
    wrong: Fraction = Fraction(0)
    ask: Ask | None = None

    def training(self, records: list[Record], rng: Random) -> list[Record]:
        """The training records of the task, made from those of the equal mix."""
        kept = records[: int(self.share * len(records))]
        kept = with_wrong_answers(kept, int(self.wrong * len(kept)), rng)
        copies = [
            {**record, "id": f"{record['id']}_copy{copy}"}
            for copy in range(2, self.copies + 1)
            for record in kept
        ]
        return kept + copies


def with_wrong_answers(records: list[Record], count: int, rng: Random) -> list[Record]:
    """The records, `count` of them with the answer of another one of these."""
    chosen = rng.sample(range(len(records)), count)
    changed = list(records)
    following = [*chosen[1:], *chosen[:1]]
    for index, other in zip(chosen, following, strict=True):
        question, _ = records[index]["conversations"]
        _, answer = records[other]["conversations"]
        changed[index] = {**records[index], "conversations": [question, answer]}
    return changed


_GROUNDS = (
    "the background of the picture is {}",
    "{} is the color of the background",
    "the picture has the background color {}",
    "on the picture the background has {}",
)
_OPENINGS = ("in the picture is", "the picture has", "at one place is", "one point has")
_KINDS = (
    "which is a kind of {}",
    "one of the {}s in the picture",
    "and the kind is {}",
    "with the kind {}",
)


def detailed_caption(scene: Scene, rng: Random) -> Asked:
    """The content of `caption` in sentences, worded as one of many writers would."""
    sentences = []
    for placed in scene.objects:
        kind = rng.choice(_KINDS).format(KIND_OF[placed.name])
        sentences.append(f"{rng.choice(_OPENINGS)} {described(placed)}, {kind}")
    ground = rng.choice(_GROUNDS).format(scene.ground)
    sentences.insert(rng.choice((0, len(sentences))), ground)
    return Asked("Describe the picture in detail.", ". ".join(sentences))


MIXES: dict[str, Mapping[str, TaskData]] = {
    EQUAL: {},
    SKEWED: {
        "caption": TaskData(ask=detailed_caption),
        "region_caption": TaskData(wrong=Fraction(2, 5)),
        "vqa": TaskData(share=Fraction(1, 4), copies=4),
        "relation": TaskData(share=Fraction(1, 16)),
        "ocr": TaskData(share=Fraction(1, 4)),
        "chat": TaskData(share=Fraction(1, 4)),
    },
    DOMINATED: {task: TaskData(share=Fraction(1, 8)) for task in TASKS if task != LARGEST},
}
MAX_NEW_TOKENS = {EQUAL: 40, SKEWED: 72, DOMINATED: 40}


def mix_named(name: str) -> Mapping[str, TaskData]:
    """How the tasks of a mix differ from the equal one.

    Raises:
        CotbalError: `invalid-option`, no such mix.
    """
    if name not in MIXES:
        raise CotbalError(
            f"mix: expected one of {', '.join(MIXES)}; found {name!r}", "invalid-option"
        )
    return MIXES[name]
