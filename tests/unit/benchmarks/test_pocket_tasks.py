"""Every answer of `pocket` follows from what the image shows."""

from __future__ import annotations

import re
from random import Random

import pytest

from cotbal.benchmarks.pocket import tasks
from cotbal.benchmarks.pocket.charts import Bar, Chart, random_chart
from cotbal.benchmarks.pocket.chat import chat, continents
from cotbal.benchmarks.pocket.drawings import DRAWINGS, KIND_OF, NAMES, Placed
from cotbal.benchmarks.pocket.scenes import Scene, direction, random_scene
from cotbal.benchmarks.pocket.signs import random_sign

SEEDS = range(25)
FROG = Placed("frog", (2, 20, 22, 40), big=True)
BELL = Placed("bell", (30, 2, 41, 14), big=False)
PIG = Placed("pig", (33, 30, 45, 42), big=False)
SCENE = Scene("blue", 0, (FROG, BELL, PIG))


def by_name(scene: Scene) -> dict[str, Placed]:
    return {placed.name: placed for placed in scene.objects}


def test_caption_names_size_place_and_ground() -> None:
    asked = tasks.caption(SCENE, Random(0))
    assert (
        asked.answer == "a big frog left, a small bell top right, a small pig bottom right, on blue"
    )


def test_region_caption_describes_the_drawing_in_the_box() -> None:
    answers = {tasks.region_caption(SCENE, Random(seed)) for seed in range(20)}
    assert {asked.question: asked.answer for asked in answers} == {
        "Describe the region [2,20,22,40].": "a big frog left, on blue",
        "Describe the region [30,2,41,14].": "a small bell top right, on blue",
        "Describe the region [33,30,45,42].": "a small pig bottom right, on blue",
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_vqa_answers_kind_count_or_ground(seed: int) -> None:
    scene = random_scene(Random(seed))
    asked = tasks.vqa(scene, Random(seed))
    kinds = [KIND_OF[placed.name] for placed in scene.objects]
    if counted := re.match(r"How many (\w+)s are", asked.question):
        assert asked.answer == str(kinds.count(counted[1]))
    elif single := re.match(r"Which (\w+) is", asked.question):
        assert kinds.count(single[1]) == 1
        assert asked.answer in DRAWINGS[single[1]]
        assert asked.answer in by_name(scene)
    else:
        assert asked.question == "Which color has the background?"
        assert asked.answer == scene.ground


@pytest.mark.parametrize("seed", SEEDS)
def test_relation_has_exactly_one_answer(seed: int) -> None:
    scene = random_scene(Random(seed))
    asked = tasks.relation(scene, Random(seed))
    sides = "left of|right of|above|below"
    match = re.fullmatch(
        rf"What is (?:(?P<side>{sides}) )?the (?P<anchor>\w+)(?: (?P<from>{sides}))?\?",
        asked.question,
    )
    assert match is not None
    assert (match["side"] is None) != (match["from"] is None)
    named = [
        placed for placed in scene.objects if match["anchor"] in (placed.name, KIND_OF[placed.name])
    ]
    assert len(named) == 1, "a kind names the drawing only where no other drawing is of it"
    anchor = named[0]
    kinds = [KIND_OF[placed.name] for placed in scene.objects]
    assert (match["anchor"] in DRAWINGS) == (kinds.count(KIND_OF[anchor.name]) == 1)
    others = [other for other in scene.objects if other is not anchor]
    seen = {
        other.name: direction(*((other, anchor) if match["side"] else (anchor, other)))
        for other in others
    }
    assert [name for name, side in seen.items() if side == (match["side"] or match["from"])] == [
        asked.answer
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_grounding_gives_the_box_of_the_named_drawing(seed: int) -> None:
    scene = random_scene(Random(seed))
    asked = tasks.grounding(scene, Random(seed))
    name = asked.question.removeprefix("Where is the ").removesuffix("?")
    assert asked.answer == "[{},{},{},{}]".format(*by_name(scene)[name].box)


def test_chart_answers_are_a_colour_or_a_value_to_the_nearest_ten() -> None:
    bars = (
        Bar("red", "A", 41.2),
        Bar("blue", "B", 78.0),
        Bar("green", "C", 12.9),
        Bar("black", "D", 60.0),
    )
    chart = Chart("income", 1952, bars, 250, 4)
    answers = {
        asked.question: asked.answer
        for asked in (tasks.chart_qa(chart, Random(seed)) for seed in range(60))
    }
    assert answers == {
        "Which bar has the highest income?": "blue",
        "Which bar has the lowest income?": "green",
        "What income has the red bar?": "40",
        "What income has the blue bar?": "80",
        "What income has the green bar?": "10",
        "What income has the black bar?": "60",
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_chart_and_sign_answers_come_from_the_image(seed: int) -> None:
    chart, sign = random_chart(Random(seed)), random_sign(Random(seed))
    answer = tasks.chart_qa(chart, Random(seed)).answer
    assert answer in {bar.colour for bar in chart.bars} | {str(bar.tens) for bar in chart.bars}
    assert tasks.ocr(sign, Random(seed)).answer == sign.word


@pytest.mark.parametrize("seed", SEEDS)
def test_chat_tells_facts(seed: int) -> None:
    asked = chat(Random(seed))
    words = re.findall(r"\w+", asked.question)
    if words[0] == "On":
        assert (
            continents()[asked.question.removeprefix("On which continent is ").removesuffix("?")]
            == asked.answer
        )
    elif words[0] == "Write":
        assert asked.answer == words[3].upper()
    elif words[1] == "kind":
        assert KIND_OF[words[-1]] == asked.answer
    else:
        kind = words[4]
        assert KIND_OF[asked.answer] == kind
        assert [KIND_OF[word] for word in words[5:] if word in NAMES].count(kind) == 1
