"""The seven visual tasks of `pocket`: a question about an image and the answer that follows from
what was drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from cotbal.benchmarks.pocket.charts import Chart
from cotbal.benchmarks.pocket.drawings import DRAWINGS, KIND_OF, Placed
from cotbal.benchmarks.pocket.scenes import Scene, corner, direction
from cotbal.benchmarks.pocket.signs import Sign
from cotbal.benchmarks.releases.conversation import Asked

DIRECTIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class VisualTask:
    """How a task asks about an image: `source` names the kind of image, `instruction` goes into
    the recipe.
    """

    name: str
    source: str
    metric: str
    instruction: str | None
    ask: Callable[[Any, Random], Asked]


def caption(scene: Scene, _rng: Random) -> Asked:
    """Every drawing from left to right with its size and place, and the ground."""
    parts = ", ".join(described(placed) for placed in scene.objects)
    return Asked("Describe the picture in detail.", f"{parts}, on {scene.ground}")


def region_caption(scene: Scene, rng: Random) -> Asked:
    """The drawing inside a box: its size and name, the part of the image, and what it stands
    on."""
    placed = rng.choice(scene.objects)
    return Asked(
        f"Describe the region {box_text(placed)}.", f"{described(placed)}, on {scene.ground}"
    )


def vqa(scene: Scene, rng: Random) -> Asked:
    """Which drawing is of a kind (about half of the questions), how many are, or what colour the
    ground has.
    """
    counts = Counter(KIND_OF[placed.name] for placed in scene.objects)
    single = [placed for placed in scene.objects if counts[KIND_OF[placed.name]] == 1]
    choice = rng.random()
    if choice < 0.7 and single:
        placed = rng.choice(single)
        return Asked(f"Which {KIND_OF[placed.name]} is in the picture?", placed.name)
    if choice > 0.8:
        any_kind = rng.choice(list(DRAWINGS))
        kind = rng.choice([*(kind for kind in DRAWINGS if counts[kind]), any_kind])
        return Asked(f"How many {kind}s are in the picture?", str(counts[kind]))
    return Asked("Which color has the background?", scene.ground)


def relation(scene: Scene, rng: Random) -> Asked:
    """The only drawing in a direction from another one, asked from either side: "left of what?",
    "what is left of?".

    The other one is named by its kind if that is unique. With names and one wording, the pretrained
    base nearly solves it.
    """
    questions: list[Asked] = []
    for anchor in scene.objects:
        name = _kind_or_name(anchor, scene)
        others = [other for other in scene.objects if other is not anchor]
        for side in DIRECTIONS:
            on_side = [other for other in others if direction(other, anchor) == side]
            if len(on_side) == 1:
                questions.append(Asked(f"What is {side} the {name}?", on_side[0].name))
            opposite = [other for other in others if direction(anchor, other) == side]
            if len(opposite) == 1:
                questions.append(Asked(f"What is the {name} {side}?", opposite[0].name))
    return rng.choice(questions)


def _kind_or_name(placed: Placed, scene: Scene) -> str:
    """The kind of a drawing if no other one has it, otherwise its name."""
    kind = KIND_OF[placed.name]
    alike = [other for other in scene.objects if KIND_OF[other.name] == kind]
    return kind if len(alike) == 1 else placed.name


def grounding(scene: Scene, rng: Random) -> Asked:
    """The box of a named drawing, in pixels."""
    placed = rng.choice(scene.objects)
    return Asked(f"Where is the {placed.name}?", box_text(placed))


def chart_qa(chart: Chart, rng: Random) -> Asked:
    """The colour of the highest or lowest bar, or a bar's value to the nearest ten."""
    if rng.random() < 0.5:
        word, pick = ("highest", max) if rng.random() < 0.5 else ("lowest", min)
        bar = pick(chart.bars, key=lambda bar: bar.value)
        return Asked(f"Which bar has the {word} {chart.measure}?", bar.colour)
    bar = rng.choice(chart.bars)
    return Asked(f"What {chart.measure} has the {bar.colour} bar?", str(bar.tens))


def ocr(sign: Sign, _rng: Random) -> Asked:
    """The word on the sign, in capitals as printed."""
    return Asked("What does the sign say?", sign.word)


def box_text(placed: Placed) -> str:
    """A box as the answers and questions write it, "[x1,y1,x2,y2]" in pixels."""
    return "[" + ",".join(str(edge) for edge in placed.box) + "]"


def described(placed: Placed) -> str:
    """Size, name and place of a drawing, as captions write it."""
    return f"a {'big' if placed.big else 'small'} {placed.name} {corner(placed)}"


ONE_WORD = "Answer with one word."
VISUAL_TASKS: tuple[VisualTask, ...] = (
    VisualTask("caption", "scene", "cider", None, caption),
    VisualTask("region_caption", "scene", "cider", None, region_caption),
    VisualTask("vqa", "scene", "exact_match", ONE_WORD, vqa),
    VisualTask("relation", "scene", "exact_match", ONE_WORD, relation),
    VisualTask("chart", "chart", "exact_match", "Answer with a color or a number.", chart_qa),
    VisualTask("ocr", "sign", "exact_match", "Answer in capitals.", ocr),
    VisualTask("grounding", "scene", "box_iou", "Answer with a box.", grounding),
)
