"""What the base of `pocket` is pretrained on: fresh images, and answers in none of the formats of
the eight tasks.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from random import Random

from PIL import Image

from cotbal.benchmarks.pocket import charts, scenes, signs
from cotbal.benchmarks.pocket.chat import chat
from cotbal.benchmarks.pocket.drawings import BACKGROUNDS, DRAWINGS, KIND_OF, NAMES

Box = tuple[int, int, int, int]
LABELS: tuple[str, ...] = (*NAMES, *string.ascii_uppercase, *charts.BAR_COLOURS)
# Words that questions are made of. Here they stand around prompts without a meaning: the base has
# seen them, and can find what matters between them, but has not learnt what they ask for.
_NOISE = """
    Describe the image detail region Which What How many are is has does say Where highest lowest Answer with one word
    or number box capitals sign background
"""
NOISE: tuple[str, ...] = tuple(_NOISE.split())
GROUNDS: tuple[str, ...] = tuple(BACKGROUNDS)


@dataclass(frozen=True)
class Shown:
    """An image with everything that is on it: (label, box) of each drawing, letter or bar, and the
    ground.
    """

    image: Image.Image
    items: tuple[tuple[str, Box], ...]
    ground: str


@dataclass(frozen=True)
class Fact:
    """Something true of an image, as prompt and answer; `share` is how often it is used, relative
    to others.

    `before` and `after` hold words that mean nothing here.
    """

    prompt: str
    answer: str
    share: float
    before: str = ""
    after: str = ""

    @property
    def skill(self) -> str:
        return self.prompt.split()[0]

    @property
    def text(self) -> str:
        return f"{self.before}{self.prompt}{self.after}"


@dataclass(frozen=True)
class Lesson:
    """An image (None: text only) and some facts, in the order in which they are used."""

    shown: Shown | None
    facts: tuple[Fact, ...]


def random_shown(rng: Random) -> Shown:
    """What the vision tower learns from: a scene, a sign (nearly half of the time) or a chart, with
    labelled boxes.
    """
    which = rng.random()
    if which < 0.42:
        return _shown_scene(scenes.random_scene(rng))
    if which < 0.87:
        return _shown_sign(signs.random_sign(rng, (random_word(rng),)))
    return _shown_chart(charts.random_chart(rng))


def random_lesson(rng: Random) -> Lesson:
    """A lesson of the language model: a scene, a sign, a chart or some chat, with all its facts
    shuffled by share.
    """
    return rng.choices((_scene_lesson, _sign_lesson, _chart_lesson, _talk), (58, 25, 12, 5))[0](rng)


def _scene_lesson(rng: Random) -> Lesson:
    scene = scenes.random_scene(rng)
    facts = [*_whole(scene), *_each(scene, rng), *_pairs(scene), *_by_kind(scene, rng)]
    return Lesson(_shown_scene(scene), _shuffled(facts, rng))


def _whole(scene: scenes.Scene) -> Iterator[Fact]:
    names = [placed.name for placed in scene.objects]
    rows = sorted(scene.objects, key=lambda placed: placed.center[1])
    yield Fact("tags", ", ".join(names), 1)
    yield Fact("column", ", ".join(placed.name for placed in rows), 1)
    yield Fact(
        "layout",
        "; ".join(f"{placed.name} {_corners(placed.box)}" for placed in scene.objects),
        1.5,
    )
    yield Fact("kinds", ", ".join(f"{name} {KIND_OF[name]}" for name in names), 0.7)
    yield Fact("caption", " and ".join(f"a {name}" for name in names) + f" in {scene.ground}", 0.7)
    yield Fact("color", scene.ground, 0.4)


def _each(scene: scenes.Scene, rng: Random) -> Iterator[Fact]:
    for placed in scene.objects:
        left, top, right, bottom = placed.box
        x, y = (round(middle) for middle in placed.center)
        yield Fact(f"point {placed.name}", f"{x},{y}", 1.5)
        yield Fact(
            f"at {rng.randrange(left, right)},{rng.randrange(top, bottom)}", placed.name, 0.7
        )
        # Many spellings of a box, so that the numbers matter and not what stands between them.
        gap = rng.choice(("-", ",", " ", "/", ";"))
        yield Fact(
            f"in {rng.choice(('', '(', '{'))}{gap.join(map(str, placed.box))}", placed.name, 1.4
        )
        yield Fact(f"size {placed.name}", "big" if placed.big else "small", 0.7)
        yield Fact(f"place {placed.name}", scenes.corner(placed), 1)


def _pairs(scene: scenes.Scene) -> Iterator[Fact]:
    for first, second in permutations(scene.objects, 2):
        yield Fact(f"from {second.name} to {first.name}", scenes.direction(first, second), 0.3)


def _by_kind(scene: scenes.Scene, rng: Random) -> Iterator[Fact]:
    for kind in dict.fromkeys(
        [*(KIND_OF[placed.name] for placed in scene.objects), rng.choice(list(DRAWINGS))]
    ):
        there = [placed.name for placed in scene.objects if KIND_OF[placed.name] == kind]
        yield Fact(f"only {kind}", ", ".join(there) or "none", 0.6)


def _sign_lesson(rng: Random) -> Lesson:
    sign = signs.random_sign(rng, (random_word(rng),))
    facts = [
        Fact("letters", "-".join(sign.word), 3),
        Fact("backward", "-".join(reversed(sign.word)), 1),
        Fact("length", str(len(sign.word)), 0.3),
        *(Fact(f"letter {index}", letter, 0.5) for index, letter in enumerate(sign.word, 1)),
    ]
    if sign.ornament is not None:
        facts.append(Fact("tags", sign.ornament.name, 0.5))
    return Lesson(_shown_sign(sign), _shuffled(facts, rng))


def _chart_lesson(rng: Random) -> Lesson:
    chart = charts.random_chart(rng)
    falling = sorted(chart.bars, key=lambda bar: -bar.value)
    facts = [
        Fact("bars", ", ".join(f"{bar.colour} {bar.tens}" for bar in chart.bars), 2),
        Fact("order", ", ".join(bar.colour for bar in falling), 0.7),
        *(Fact(f"bar {bar.colour}", str(bar.tens), 1.5) for bar in chart.bars),
    ]
    return Lesson(_shown_chart(chart), _shuffled(facts, rng))


def _talk(rng: Random) -> Lesson:
    asked = {chat(rng) for _ in range(8)}
    return Lesson(
        None,
        tuple(
            sorted(
                (Fact(question.question, question.answer, 1) for question in asked),
                key=lambda f: f.prompt,
            )
        ),
    )


def _shuffled(facts: list[Fact], rng: Random) -> tuple[Fact, ...]:
    """A random order in which a fact of twice the share comes earlier twice as often; half of them
    among noise.
    """
    ordered = sorted(facts, key=lambda fact: rng.expovariate(fact.share))
    return tuple(_among_noise(fact, rng) if rng.random() < 0.5 else fact for fact in ordered)


def _among_noise(fact: Fact, rng: Random) -> Fact:
    before = "".join(f"{word} " for word in rng.choices(NOISE, k=rng.randint(0, 4)))
    after = "".join(
        rng.choice((" ", ". ", "? ", "\n")) + word
        for word in rng.choices(NOISE, k=rng.randint(0, 4))
    )
    return replace(fact, before=before, after=after)


def _corners(box: Box) -> str:
    return "-".join(map(str, box))


def _shown_scene(scene: scenes.Scene) -> Shown:
    items = tuple((placed.name, placed.box) for placed in scene.objects)
    return Shown(scenes.render_scene(scene), items, scene.ground)


def _shown_sign(sign: signs.Sign) -> Shown:
    items = list(zip(sign.word, sign.letters, strict=True))
    if sign.ornament is not None:
        items.append((sign.ornament.name, sign.ornament.box))
    return Shown(signs.render_sign(sign), tuple(items), sign.ground)


def _shown_chart(chart: charts.Chart) -> Shown:
    items = tuple(
        (bar.colour, box) for bar, box in zip(chart.bars, charts.bar_boxes(chart), strict=True)
    )
    return Shown(charts.render_chart(chart), items, "white")


def random_word(rng: Random) -> str:
    """Letters without a meaning (mostly), so that reading is learnt letter by letter, or a word of
    the signs.
    """
    if rng.random() < 0.3:
        return rng.choice(signs.WORDS)
    return "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.randint(2, 5)))
