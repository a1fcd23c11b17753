"""ShareGPT: conversations of people with ChatGPT, filtered as for Vicuna (Zheng et al. 2023): by
the rules of FastChat's `clean_sharegpt`.

Not applied: its conversion of HTML, since the dump that is read was converted (one that was not is
rejected), and FastChat's further scripts, which filter languages and lists and split conversations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cotbal.benchmarks.academic.mix665k import mix_source
from cotbal.benchmarks.releases.benchmark import SplitPlan, TaskPlan
from cotbal.benchmarks.releases.conversation import Asked, Conversation
from cotbal.benchmarks.releases.llava import TURN, identity
from cotbal.benchmarks.releases.rows import Row
from cotbal.benchmarks.releases.rules import drawn
from cotbal.benchmarks.releases.sources import Files, Job, Source
from cotbal.benchmarks.releases.visatb import visatb_source
from cotbal.benchmarks.releases.writing import Expected
from cotbal.errors import DataError

NAME = "ShareGPT"
TRAIN = 41_000  # Table 8
_ASKS, _ANSWERS = "human", "gpt"
_ROLES = (_ASKS, _ANSWERS, "user", "chatgpt", "bing", "bard", "system")
_PEOPLE = (_ASKS, "user", "system")
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
        version=2,  # the rules of FastChat where they differed
    )


def _read(files: Files, job: Job) -> Iterator[Conversation]:
    _demand_converted(files, job)
    ids = (conversation.id for conversation in _filtered(files, job))
    wanted = frozenset(drawn(ids, TRAIN, job.choices.seed, "conversations"))
    for conversation in _filtered(files, job):
        if conversation.id in wanted:
            yield conversation


def _filtered(files: Files, job: Job) -> Iterator[Conversation]:
    """What is left of the dump, without what used plugins; of several records with one id, or with
    one first question and answer, the first that is left.
    """
    seen: set[int] = set()
    for row in _rows(files, job):
        turns = cleaned(_spoken(row))
        if not turns or row.fields.get("plugins") is not None:
            continue
        keys = {hash(("id", identity(row))), hash(turns[0])}
        if not keys & seen:
            seen |= keys
            yield Conversation(identity(row), None, turns)


def _rows(files: Files, job: Job) -> Iterator[Row]:
    (path,) = files["dump"]
    return job.list_rows(path, "item", ("id", "conversations"), ("plugins", "model"))


def _demand_converted(files: Files, job: Job) -> None:
    """Raise DataError for a dump that was not converted: there, nearly every answer is HTML.

    Some texts of a converted one begin like that, too, where people and models write about web
    pages.
    """
    answers = html = 0
    for row in _rows(files, job):
        for role, text in _spoken(row):
            if role not in _PEOPLE:
                answers += 1
                html += _HTML.match(text) is not None
    if 2 * html > answers:
        raise DataError(
            f"{files['dump'][0]}: expected Markdown; found HTML in {html:,} of {answers:,} answers;"
            " take the V3 dump, which has been converted",
            "other-version",
        )


def _spoken(row: Row) -> list[Spoken]:
    turns = []
    for turn in row.rows("conversations", TURN):
        role, text = turn.text("from"), turn.text("value")
        if role not in _ROLES:
            raise turn.error(
                f"from: expected one of {', '.join(_ROLES)}; found {role!r}", "unknown-value"
            )
        turns.append((role, text))
    return turns


def cleaned(spoken: Sequence[Spoken]) -> tuple[Asked, ...]:
    """The questions and answers that are left of a conversation, or none when it is dropped.

    As FastChat does it: a first turn that is not the human's is removed, and a last one that is.
    Then turn by turn: any other role than human and gpt in turn drops the whole, and so does a
    blocked word or an answer that is the rate limit of the service; an empty turn, or one that
    begins unprintably, ends the conversation, and nothing behind it is looked at. What is shorter
    than 16 characters is dropped, and a question without an answer removed.
    """
    turns = list(spoken)
    if turns and turns[0][0] != _ASKS:
        del turns[0]
    if turns and turns[-1][0] == _ASKS:
        del turns[-1]
    texts: list[str] = []
    for number, (role, value) in enumerate(turns):
        text = value.strip()
        if role != (_ASKS, _ANSWERS)[number % 2] or _is_blocked(role, text):
            return ()
        if not text or not text[0].isprintable():
            break
        texts.append(text)
    if sum(map(len, texts)) < _SHORTEST:
        return ()
    return tuple(map(Asked, texts[::2], texts[1::2]))


def _is_blocked(role: str, text: str) -> bool:
    lower = text.lower()
    limited = role == _ANSWERS and text.removeprefix("!").startswith(_LIMITED)
    return limited or any(word in lower for word in _BLOCKED)
