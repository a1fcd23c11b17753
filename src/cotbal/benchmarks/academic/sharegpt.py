"""ShareGPT: conversations of people with ChatGPT, filtered as for Vicuna (Zheng et al. 2023,
FastChat's cleaning).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile

from cotbal.benchmarks.academic.mix665k import mix_source
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.llava import TURN, identity
from cotbal.benchmarks.releases.rows import Row, json_list, known
from cotbal.benchmarks.releases.rules import drawn
from cotbal.benchmarks.releases.sources import Files, Job, Source
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected
from cotbal.errors import DataError

NAME = "ShareGPT"
TRAIN = 41_000  # Table 8
_ROLES = {
    "human": "human",
    "user": "human",
    "gpt": "gpt",
    "chatgpt": "gpt",
    "bing": "gpt",
    "bard": "gpt",
    "system": "system",
}
_BLOCKED = ("openai", "chatgpt")
_LIMITED = "Too many requests in 1 hour. Try again later."
_SHORTEST = 16  # characters
_HTML = re.compile(r"^\s*<(div|p|span)\b")
_GET = (
    "hf download anon8231489123/ShareGPT_Vicuna_unfiltered"
    " ShareGPT_V3_unfiltered_cleaned_split.json --repo-type dataset --local-dir"
    " RAW/anon8231489123/ShareGPT_Vicuna_unfiltered"
)

Spoken = tuple[str, str]  # role and text of one turn


def plan() -> TaskPlan:
    """Where ShareGPT comes from and how much of it is taken (Table 8: 41k conversations)."""
    files = {
        "dump": (
            "anon8231489123/ShareGPT_Vicuna_unfiltered/ShareGPT_V3_unfiltered_cleaned_split*.json"
        )
    }
    released = visatb_source("Academic", NAME, file="Academic")
    sources = (mix_source(None), Source("original", files, _GET, _read), released)
    return TaskPlan(
        NAME,
        None,
        (SplitPlan("train", sources, Expected(TRAIN, rounded_to=1000)),),
        remarks=(
            (
                "ShareGPT: the paper says 41k, filtered as for Vicuna, and not which. LLaVA-1.5's"
                " own (mix665k) are read"
            ),
            "if they are there; otherwise 41,000 of the filtered dump are drawn by the seed.",
        ),
        balanced=False,
    )


def _read(files: Files, job: Job) -> Iterator[Conversation]:
    _refuse_html(files, job)
    ids = (each.id for each in _filtered(files, job))
    wanted = frozenset(drawn(ids, TRAIN, job.choices.seed, "conversations"))
    yield from (each for each in _filtered(files, job) if each.id in wanted)


def _filtered(files: Files, job: Job) -> Iterator[Conversation]:
    """What is left of the dump; of several with one id or one beginning, the first."""
    seen: set[int] = set()
    for row in _rows(files, job):
        turns = (
            cleaned(_spoken(row, job.choices.ignore_keys)) if not row.fields.get("plugins") else ()
        )
        if not turns:
            continue
        keys = {hash(("id", identity(row))), hash(turns[0])}
        if not keys & seen:
            yield Conversation(identity(row), None, turns)
        seen |= keys


def _rows(files: Files, job: Job) -> Iterator[Row]:
    (path,) = files["dump"]
    for place, raw in json_list(path, "item", job.progress):
        yield known(
            raw, place, ("id", "conversations"), ("plugins", "model", *job.choices.ignore_keys)
        )


def _refuse_html(files: Files, job: Job) -> None:
    """Refuse a dump that was not converted: there, nearly every answer is HTML.

    Some texts of a converted one begin like that, too, where people and models write about web
    pages.
    """
    answers = html = 0
    for row in _rows(files, job):
        for role, text in _spoken(row, job.choices.ignore_keys):
            answers += role == "gpt"
            html += role == "gpt" and _HTML.match(text) is not None
    if 2 * html > answers:
        raise DataError(
            f"{files['dump'][0]}: expected Markdown; found HTML in {html:,} of {answers:,} answers;"
            " take the V3 dump, which has been converted"
        )


def _spoken(row: Row, ignored: Collection[str]) -> list[Spoken]:
    found = []
    for turn in row.rows("conversations", TURN, ignored):
        role, text = turn.text("from"), turn.text("value")
        if role not in _ROLES:
            raise turn.refuse(f"from: expected one of {', '.join(_ROLES)}; found {role!r}")
        found.append((_ROLES[role], text))
    return found


def cleaned(spoken: Sequence[Spoken]) -> tuple[Asked, ...]:
    """The questions and answers that are left of a conversation, or none when it is to be dropped.

    In this order, as FastChat does it: a first turn that is not the human's and a last one that is
    go; roles must alternate; blocked words and refusals of the service drop the whole; it ends
    before the first turn that is empty or begins unprintably; a question without an answer goes;
    very short ones are dropped.
    """
    turns = list(spoken)
    if turns and turns[0][0] != "human":
        del turns[0]
    if turns and turns[-1][0] == "human":
        del turns[-1]
    if len(turns) < 2 or any(role != ("human", "gpt")[i % 2] for i, (role, _) in enumerate(turns)):
        return ()
    if any(_is_blocked(role, text) for role, text in turns):
        return ()
    texts = [text.strip() for text in takewhile(_is_sound, (text for _, text in turns))]
    texts = texts[: len(texts) // 2 * 2]
    if sum(map(len, texts)) < _SHORTEST:
        return ()
    return tuple(
        Asked(question, answer) for question, answer in zip(texts[::2], texts[1::2], strict=True)
    )


def _is_blocked(role: str, text: str) -> bool:
    lower = text.lower()
    return any(word in lower for word in _BLOCKED) or (role == "gpt" and text.startswith(_LIMITED))


def _is_sound(text: str) -> bool:
    stripped = text.strip()
    return bool(stripped) and stripped[0].isprintable()
