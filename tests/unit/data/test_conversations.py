from __future__ import annotations

from typing import Any

import pytest

from cotbal.data.reading.conversations import normalise
from cotbal.data.reading.record import Record, Turn
from cotbal.data.reading.turns import MARKS
from cotbal.errors import DataError
from helpers.record_rows import llava, talk


def keep(content: bytes) -> str:
    if content == b"broken":
        raise DataError("expected an embedded image; found 6 bytes that are none")
    return f"kept-{len(content)}"


def read(raw: Any, evaluation: bool = False) -> Record:
    result = normalise(raw, 7, evaluation, keep)
    assert isinstance(result, Record), result
    return result


def problems(raw: Any, evaluation: bool = False) -> list[str]:
    result = normalise(raw, 7, evaluation, keep)
    assert isinstance(result, list)
    assert result
    return result


def parts(*content: Any, **columns: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": list(content)},
            {"role": "assistant", "content": "yes"},
        ],
        **columns,
    }


def text_of(raw: Any) -> str:
    return read(raw).turns[0].text


def test_llava_row() -> None:
    record = read(llava("a", task="vqa"))
    assert record == Record(
        "a",
        "vqa",
        ("a.png",),
        (Turn("user", "<image>\nWhat?"), Turn("assistant", "a frog")),
        ("a frog",),
        7,
    )


def test_what_json_could_not_hold_is_no_detail() -> None:
    """Half a surrogate pair, which UTF-8 cannot hold, bytes and empty cells; a record is whole
    without them.
    """
    raw = llava(
        "a", category="x", half="\ud800", data=b"\0", missing=None, blank=float("nan"), task="vqa"
    )
    assert read(raw, evaluation=True).details == {"category": "x"}
    assert read(raw).details == {}


def test_every_role_of_llava_files_is_known() -> None:
    for user in ("human", "user"):
        for assistant in ("gpt", "assistant", "chatgpt", "bing", "bard"):
            turns = [{"from": "system", "value": "Be short."}, {"from": user, "value": "Hi"}]
            turns += [{"from": assistant, "value": "Hello"}]
            record = read({"conversations": turns})
            assert [turn.role for turn in record.turns] == ["system", "user", "assistant"]


def test_messages_row_is_the_same_record_as_a_llava_row() -> None:
    raw = parts({"type": "image"}, {"type": "text", "text": "What?"}, images=["a.png"], id="a")
    raw["messages"][1]["content"] = [{"type": "text", "text": "a frog"}]
    assert read(raw) == read(llava("a"))


def test_messages_with_plain_texts() -> None:
    raw = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "image": None,
    }
    assert read(raw).turns == (Turn("user", "Hi"), Turn("assistant", "Hello"))
    assert read(raw).images == ()


@pytest.mark.parametrize(
    "part",
    [
        {"image": "b.png"},
        {"path": "b.png"},
        {"url": "b.png"},
        {"image": {"bytes": None, "path": "b.png"}},
    ],
)
def test_a_image_part_may_name_its_file(part: dict[str, Any]) -> None:
    record = read(parts({"type": "image", "text": None, **part}, {"type": "text", "text": "What?"}))
    assert record.images == ("b.png",)


def test_image_url_parts_name_their_file() -> None:
    assert read(parts({"type": "image_url", "image_url": {"url": "b.png"}})).images == ("b.png",)


def test_embedded_images_are_kept() -> None:
    assert read(llava(image={"bytes": b"1234", "path": None})).images == ("kept-4",)
    assert read(llava(image=[{"bytes": None, "path": "x.png"}])).images == ("x.png",)
    assert (
        "expected an embedded image"
        in problems(llava(image={"bytes": b"broken", "path": "x.png"}))[0]
    )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("<image>\nWhat?", "<image>\nWhat?"),
        ("<image>What?", "<image>\nWhat?"),
        ("What?\n<image>", "<image>\nWhat?"),
        ("<image>", "<image>"),
        ("", "<image>"),
        ("What?", "<image>\nWhat?"),
        ("Is <image> red?", "Is <image> red?"),
    ],
)
def test_place_of_one_marker(question: str, expected: str) -> None:
    assert text_of(llava(question=question)) == expected


def test_several_markers_stay_where_they_are() -> None:
    assert (
        text_of(llava(question="Is <image> like <image>?", image=["a.png", "b.png"]))
        == "Is <image> like <image>?"
    )


def test_a_marker_in_a_later_turn() -> None:
    record = read(llava(conversations=talk("Hi", "Hello", "<image>\nWhat?", "a frog")))
    assert [turn.text for turn in record.turns] == ["Hi", "Hello", "<image>\nWhat?", "a frog"]


def test_lines_between_parts() -> None:
    image, a, b = {"type": "image"}, {"type": "text", "text": "A"}, {"type": "text", "text": "B"}
    assert text_of(parts(image, a, b, images=["1"])) == "<image>\nAB"
    assert text_of(parts(a, image, images=["1"])) == "<image>\nA"
    assert text_of(parts(a, image, b, images=["1"])) == "A<image>B"
    assert text_of(parts(a, image, b, image, images=["1", "2"])) == "A<image>B<image>"
    assert text_of(parts(image, image, a, images=["1", "2"])) == "<image>\n<image>\nA"


def test_several_right_answers() -> None:
    record = read(llava(answer=["a frog", "one frog"]), evaluation=True)
    assert record.references == ("a frog", "one frog")
    assert record.turns[-1].text == "a frog"


def test_numbers_serve_as_ids_and_a_missing_id_stays_empty() -> None:
    assert read(llava(id=12)).id == "12"
    assert read(llava(None)).id == ""


BAD: dict[str, tuple[Any, str]] = {
    "no mapping": ([1], "expected a mapping"),
    "no turns key": ({"id": "a", "image": "b"}, "found the keys id, image"),
    "null turns": ({"conversations": None}, "expected `conversations` or `messages`"),
    "no turns": (llava(conversations=[]), "expected a list of turns"),
    "turns are text": (llava(conversations="hi"), "expected a list of turns; found str 'hi'"),
    "turn is text": (llava(conversations=["hi"]), "conversations[0]: expected a mapping"),
    "role": (
        llava(conversations=[{"from": "robot", "value": "a"}]),
        "conversations[0].from: expected one of human",
    ),
    "role type": (llava(conversations=[{"from": 3, "value": "a"}]), "found int 3"),
    "answer first": (
        llava(conversations=talk("a", "b")[1:]),
        "expected the first turn to be the user's",
    ),
    "only system": (
        {"conversations": [{"from": "system", "value": "a"}]},
        "expected the first turn to be the user's",
    ),
    "two questions": (llava(conversations=[*talk("a"), *talk("a", "b")]), "found user after user"),
    "late system": (
        {"conversations": [*talk("a", "b"), {"from": "system", "value": "x"}]},
        "found system after assistant",
    ),
    "question last": (
        llava(conversations=talk("a", "b", "c")),
        "expected the last turn to be the assistant's",
    ),
    "marker missing": (llava(question="What?", image=["a", "b"]), "found 0 <image> and 2 images"),
    "marker too many": (llava(question="<image><image>"), "found 2 <image> and 1 images"),
    "marker without image": (llava(image=None), "found 1 <image> and 0 images"),
    "marker in answer": (
        llava(answer="an <image>"),
        "conversations[1]: expected <image> only in a user's turn",
    ),
    "marker in reference": (llava(answer=["a", "an <image>"]), "only in a user's turn"),
    "empty answer": (
        llava(answer="  "),
        "conversations[1].value: expected an answer; found an empty one",
    ),
    "one empty answer": (llava(answer=["a", ""]), "expected an answer; found an empty one"),
    "no answers": (llava(answer=[]), "expected text, or a list of right answers"),
    "empty question": (llava(question=" ", image=None), "expected a question or an image"),
    "text type": (llava(question=3), "conversations[0].value: expected text; found int 3"),
    "answer type": (llava(answer=3), "conversations[1].value: expected text, or a list"),
    "image type": (llava(image=3), "image: expected the name of an image file; found int 3"),
    "image empty": (llava(image=""), "expected the name of an image file"),
    "image address": (llava(image="https://x/y.png"), "expected the name of a local image file"),
    "id type": (llava(id=[1]), "id: expected text; found list [1]"),
    "id bool": (llava(id=True), "id: expected text; found bool True"),
    "task type": (llava(task={}), "task: expected text"),
    "half a surrogate pair": (llava(answer="\ud800"), "conversations[1].value: expected text"),
    "part type": (
        parts({"type": "video", "path": "a"}),
        "messages[0].content[0]: expected a part of type text",
    ),
    "part text": (parts({"type": "text", "text": 3}), "expected a part of type text"),
    "images twice": (
        parts({"type": "image", "path": "a"}, images=["a"]),
        "either in the parts or in the column",
    ),
    "both forms": (llava(messages=[{"role": "user", "content": "a"}]), "`messages`; found both"),
    "image and images": (llava(images=["b.png"]), "or the same images in both; found image str"),
    "video": (llava(video="a.mp4"), "video: expected images only, video and audio are not"),
    "audios": (llava(audios=["a.wav"]), "audios: expected images only"),
    "video marker": (llava(question="<video>\nWhat?", image=None), "found the marker <video>"),
    "audio marker": (llava(question="Hear:\n<audio>\n?", image=None), "[0]: expected images only"),
    "system type": (llava(system=3), "system: expected text; found int 3"),
    "base64": (llava(image="iVBORw0KGgo/" * 4500), "54,000 characters, which begin 'iVBORw0KGgo/"),
    "long name": (llava(image="a.png/" * 900), "5,400 characters, which begin"),
    "images in part named": (
        parts({"type": "image", "path": "a"}, {"type": "image"}),
        "found some in each",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_problem(name: str) -> None:
    raw, message = BAD[name]
    found = problems(raw)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"image": "a.png", "images": []}, ("a.png",)),
        ({"image": "a.png", "images": None}, ("a.png",)),
        ({"image": "", "images": ["a.png"]}, ("a.png",)),
        ({"image": "a.png", "images": ["a.png"]}, ("a.png",)),
        ({"image": ["a.png"], "images": "a.png"}, ("a.png",)),
        ({"image": "a.png", "video": "", "audios": [None]}, ("a.png",)),
    ],
)
def test_two_columns_of_images_lose_none(columns: Any, expected: tuple[str, ...]) -> None:
    assert read(llava(**columns)).images == expected


def test_no_more_than_the_beginning_of_base64_is_shown() -> None:
    assert max(map(len, problems(llava(image="iVBORw0KGgo/" * 4500)))) < 200


def test_words_about_html_are_no_video() -> None:
    for text in ("Is <video> a tag?", "<video>\n<source>\n</video>\nis broken. Why?"):
        assert text_of(llava(question=text, image=None)) == text


def test_an_empty_form_gives_way_to_the_other() -> None:
    raw = {"conversations": [], "messages": [{"role": "user", "content": "a"}]}
    raw["messages"].append({"role": "assistant", "content": "b"})
    assert [turn.text for turn in read(raw).turns] == ["a", "b"]


def test_a_system_prompt_beside_the_turns() -> None:
    expected = (Turn("system", "Be short."), Turn("user", "<image>\nWhat?"))
    assert read(llava(system="Be short.")).turns[:2] == expected
    assert read(llava(system="Be short."), evaluation=True).turns[:2] == expected
    assert "system" not in read(llava(system="Be short."), evaluation=True).details
    turns = [{"from": "system", "value": "Be short."}, *talk("<image>\nWhat?", "a frog")]
    assert read(llava(system="Be short.", conversations=turns)).turns[:2] == expected
    assert read(llava(system=" ")) == read(llava(system=None)) == read(llava())
    assert problems(llava(system="Be long.", conversations=turns)) == [
        "system: expected the text of the system turn conversations[0], or no key"
    ]
    assert problems(llava(system="<image>")) == [
        "system: expected <image> only in a user's turn; found it in the system's"
    ]


def marked(*marks: dict[str, Any], form: str = "conversations") -> dict[str, Any]:
    """One turn of each side for each mapping, which goes into the answer's turn."""
    turns = talk(*(f"text {i}" for i in range(2 * len(marks))))
    for turn, more in zip(turns[1::2], marks, strict=True):
        turn.update(more)
    if form == "messages":
        turns = [{"role": turn.pop("from"), "content": turn.pop("value"), **turn} for turn in turns]
    return {form: turns}


@pytest.mark.parametrize("form", ["conversations", "messages"])
@pytest.mark.parametrize(
    "mark",
    [{key: value} for key in MARKS for value in (False, 0, 0.0)]
    + [{"loss": False, "weight": 0, "train": None}],
)
def test_marks_leave_turns_without_loss(form: str, mark: dict[str, Any]) -> None:
    record = read(marked({}, mark, {"loss": True, "weight": 1}, form=form))
    assert [turn.loss for turn in record.turns] == [True, True, True, False, True, True]
    assert record.learnt == ("text 1", "text 5")
    assert record.unread == ()


def test_marks_of_parts_that_agree() -> None:
    def answer(*marks: Any, **turn: Any) -> dict[str, Any]:
        raw = parts({"type": "text", "text": "a"})
        said = [{"type": "text", "text": "b", "training": mark} for mark in marks]
        raw["messages"][1] = {"role": "assistant", "content": said, **turn}
        return raw

    assert read(answer(None, None)).turns[1] == Turn("assistant", "bb")
    assert read(answer(True, None)).turns[1] == Turn("assistant", "bb")
    assert read(answer(False, False)).turns[1] == Turn("assistant", "bb", loss=False)
    assert read(answer(False, None, loss=False)).turns[1] == Turn("assistant", "bb", loss=False)
    for raw in (answer(False, True), answer(False, None), answer(False, loss=True)):
        assert problems(raw) == [
            "messages[1]: expected one mark for the whole answer; found parts with loss and parts"
            " without"
        ]


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (
            {"weight": 0.5},
            "conversations[1].weight: expected true or false, 1 or 0; found float 0.5",
        ),
        ({"loss": "false"}, "conversations[1].loss: expected true or false, 1 or 0; found str"),
        ({"loss": True, "weight": 0}, "marks that agree; found loss: True, weight: 0"),
        (
            {"train_detail": [{"begin_offset": 0}]},
            "[1].train_detail: expected a mark for the whole",
        ),
    ],
)
def test_marks_that_cannot_be_honoured(mark: dict[str, Any], message: str) -> None:
    (problem,) = problems(marked(mark))
    assert message in problem


def test_the_words_of_a_user_never_carry_loss() -> None:
    raw = marked({})
    raw["conversations"][0]["train"] = False
    assert read(raw).turns[0].loss
    raw["conversations"][0]["train"] = True
    assert "conversations[0]: expected marks for loss only on the assistant's" in problems(raw)[0]


def test_the_answer_of_an_evaluation_record_is_a_reference_whatever_its_mark() -> None:
    assert read(marked({"loss": False}), evaluation=True) == read(marked({}), evaluation=True)


PLAIN: dict[str, Any] = {
    "source": "coco/train2017",
    "data_source": "VQAv2",
    "original_id": "x-1",
    "question_id": 17,
    "coco_url": "http://images.cocodataset.org/1.jpg",
    "category": "conv",
    "questionType": "yes/no",
    "metadata": {"dataset": "NLVR2", "num_sample": 3},
    "width_list": [640, 480],
    "image_wh": [[640, 480]],
    "model": "gpt-4",
    "channel": "ocr",
    "clip_score": 0.31,
    "is_multi": True,
    "tools": "",
    "objects": {"ref": [], "bbox": []},
    "rejected_response": None,
}
TELLING: dict[str, Any] = {
    "hint": "Count them.",
    "context": "A man.",
    "caption": "a frog",
    "chosen": {"from": "gpt", "value": "a toad"},
    "objects": {"ref": ["frog"], "bbox": [[1, 2, 3, 4]]},
    "tools": "[]",
    "image_path": "a.png",
    "image_name": "depth/1.tiff",
    "loss": False,
    "sample_weight": 2.0,
    "label": True,
    "max_pixels": 200704,
}


def test_annotations_are_left_alone() -> None:
    assert read(llava(**PLAIN)).unread == ()


@pytest.mark.parametrize("key", TELLING)
def test_keys_that_nothing_reads_are_listed(key: str) -> None:
    assert read(llava(**{key: TELLING[key]})).unread == (key,)


def test_unread_keys_of_turns_and_parts() -> None:
    raw = parts(
        {"type": "image", "path": "a.png", "text": None, "max_pixels": 9, "image": None},
        {"type": "text", "text": "What?", "path": "b.png", "cache_control": None},
    )
    raw["messages"][1] |= {"reasoning_content": "Hm.", "name": "Ann", "tool_calls": []}
    assert read(raw).unread == (
        "messages[].content[].max_pixels",
        "messages[].content[].path",
        "messages[].reasoning_content",
    )


def test_every_problem_of_a_record_is_named() -> None:
    found = problems(llava(id=[1], task={}, image=4, answer=""))
    assert [problem.split(":")[0] for problem in found] == [
        "conversations[1].value",
        "image",
        "id",
        "task",
    ]


def test_an_evaluation_record_has_one_question() -> None:
    raw = llava(conversations=talk("a", "b", "c", "d"))
    assert len(read(raw).turns) == 4
    assert problems(raw, evaluation=True) == [
        "expected one question and one answer in an evaluation record; found 2 of each"
    ]


def test_a_system_turn_is_no_second_question() -> None:
    raw = {"conversations": [{"from": "system", "value": "Be short."}, *talk("a", "b")]}
    assert len(read(raw, evaluation=True).turns) == 3
