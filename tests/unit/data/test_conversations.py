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
        raise DataError("6 bytes that are no image", "broken-image")
    return f"kept-{len(content)}"


def read(raw: Any, evaluation: bool = False) -> Record:
    result = normalise(raw, 7, evaluation, keep)
    assert isinstance(result, Record), result
    return result


def problems(raw: Any, evaluation: bool = False) -> list[DataError]:
    result = normalise(raw, 7, evaluation, keep)
    assert isinstance(result, list)
    assert result
    return result


def only_problem(raw: Any, evaluation: bool = False) -> tuple[str, str]:
    """Code and message of the only error."""
    (problem,) = problems(raw, evaluation)
    return problem.code, str(problem)


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
def test_an_image_part_may_name_its_file(part: dict[str, Any]) -> None:
    record = read(parts({"type": "image", "text": None, **part}, {"type": "text", "text": "What?"}))
    assert record.images == ("b.png",)


def test_image_url_parts_name_their_file() -> None:
    assert read(parts({"type": "image_url", "image_url": {"url": "b.png"}})).images == ("b.png",)


def test_embedded_images_are_kept() -> None:
    assert read(llava(image={"bytes": b"1234", "path": None})).images == ("kept-4",)
    assert read(llava(image=[{"bytes": None, "path": "x.png"}])).images == ("x.png",)
    broken = llava(image={"bytes": b"broken", "path": "x.png"})
    assert only_problem(broken) == ("broken-image", "image: 6 bytes that are no image")


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


BAD: dict[str, tuple[Any, str, str]] = {  # a row, the code of its error, what the message names
    "no mapping": ([1], "no-turns", "list [1]"),
    "no turns key": ({"id": "a", "image": "b"}, "no-turns", "id, image"),
    "null turns": ({"conversations": None}, "no-turns", "conversations"),
    "no turns": (llava(conversations=[]), "no-turns", "conversations"),
    "turns are text": (llava(conversations="hi"), "no-turns", "str 'hi'"),
    "turn is text": (llava(conversations=["hi"]), "invalid-turn", "conversations[0]"),
    "role": (
        llava(conversations=[{"from": "robot", "value": "a"}]),
        "invalid-turn",
        "conversations[0].from",
    ),
    "role type": (llava(conversations=[{"from": 3, "value": "a"}]), "invalid-turn", "int 3"),
    "answer first": (llava(conversations=talk("a", "b")[1:]), "turn-order", "assistant"),
    "only system": (
        {"conversations": [{"from": "system", "value": "a"}]},
        "turn-order",
        "user",
    ),
    "two questions": (
        llava(conversations=[*talk("a"), *talk("a", "b")]),
        "turn-order",
        "user after user",
    ),
    "late system": (
        {"conversations": [*talk("a", "b"), {"from": "system", "value": "x"}]},
        "turn-order",
        "system after assistant",
    ),
    "question last": (llava(conversations=talk("a", "b", "c")), "turn-order", "assistant"),
    "marker missing": (
        llava(question="What?", image=["a", "b"]),
        "image-markers",
        "0 <image> and 2 images",
    ),
    "marker too many": (
        llava(question="<image><image>"),
        "image-markers",
        "2 <image> and 1 images",
    ),
    "marker without image": (llava(image=None), "image-markers", "1 <image> and 0 images"),
    "marker in answer": (llava(answer="an <image>"), "image-markers", "conversations[1]"),
    "marker in reference": (llava(answer=["a", "an <image>"]), "image-markers", "conversations[1]"),
    "empty answer": (llava(answer="  "), "empty-text", "conversations[1].value"),
    "one empty answer": (llava(answer=["a", ""]), "empty-text", "conversations[1].value"),
    "no answers": (llava(answer=[]), "invalid-value", "conversations[1].value"),
    "empty question": (llava(question=" ", image=None), "empty-text", "user"),
    "text type": (llava(question=3), "invalid-value", "conversations[0].value"),
    "answer type": (llava(answer=3), "invalid-value", "conversations[1].value"),
    "image type": (llava(image=3), "invalid-image-name", "image: "),
    "image empty": (llava(image=""), "invalid-image-name", "image: "),
    "image address": (llava(image="https://x/y.png"), "invalid-image-name", "https://x/y.png"),
    "cache": (llava(image="embedded:1:../x"), "invalid-image-name", "embedded:1:../x"),
    "id type": (llava(id=[1]), "invalid-value", "id: "),
    "id bool": (llava(id=True), "invalid-value", "id: "),
    "task type": (llava(task={}), "invalid-value", "task: "),
    "half a surrogate pair": (llava(answer="\ud800"), "invalid-value", "conversations[1].value"),
    "part type": (
        parts({"type": "video", "path": "a"}),
        "invalid-turn",
        "messages[0].content[0]",
    ),
    "part text": (parts({"type": "text", "text": 3}), "invalid-turn", "messages[0].content[0]"),
    "images twice": (
        parts({"type": "image", "path": "a"}, images=["a"]),
        "conflicting-fields",
        "images",
    ),
    "both forms": (
        llava(messages=[{"role": "user", "content": "a"}]),
        "conflicting-fields",
        "`messages`",
    ),
    "image and images": (llava(images=["b.png"]), "conflicting-fields", "`images`"),
    "video": (llava(video="a.mp4"), "unsupported-media", "video: "),
    "audios": (llava(audios=["a.wav"]), "unsupported-media", "audios: "),
    "video marker": (
        llava(question="<video>\nWhat?", image=None),
        "unsupported-media",
        "<video>",
    ),
    "audio marker": (
        llava(question="Hear:\n<audio>\n?", image=None),
        "unsupported-media",
        "conversations[0]",
    ),
    "system type": (llava(system=3), "invalid-value", "system: "),
    "base64": (llava(image="iVBORw0KGgo/" * 4500), "invalid-image-name", "54,000"),
    "long name": (llava(image="a.png/" * 900), "invalid-image-name", "5,400"),
    "images in part named": (
        parts({"type": "image", "path": "a"}, {"type": "image"}),
        "conflicting-fields",
        "images",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_problem(name: str) -> None:
    raw, code, named = BAD[name]
    found_code, message = only_problem(raw)
    assert found_code == code
    assert named in message


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
    assert len(only_problem(llava(image="iVBORw0KGgo/" * 4500))[1]) < 200


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
    code, message = only_problem(llava(system="Be long.", conversations=turns))
    assert code == "conflicting-fields"
    assert "conversations[0]" in message
    code, message = only_problem(llava(system="<image>"))
    assert (code, message.partition(":")[0]) == ("image-markers", "system")


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
        code, message = only_problem(raw)
        assert (code, message.partition(":")[0]) == ("invalid-loss-mark", "messages[1]")


@pytest.mark.parametrize(
    ("mark", "named"),
    [
        ({"weight": 0.5}, "conversations[1].weight"),
        ({"loss": "false"}, "conversations[1].loss"),
        ({"loss": True, "weight": 0}, "loss: True, weight: 0"),
        ({"train_detail": [{"begin_offset": 0}]}, "conversations[1].train_detail"),
    ],
)
def test_marks_that_are_not_supported(mark: dict[str, Any], named: str) -> None:
    code, message = only_problem(marked(mark))
    assert code == "invalid-loss-mark"
    assert named in message


def test_the_words_of_a_user_never_carry_loss() -> None:
    raw = marked({})
    raw["conversations"][0]["train"] = False
    assert read(raw).turns[0].loss
    raw["conversations"][0]["train"] = True
    code, message = only_problem(raw)
    assert (code, message.partition(":")[0]) == ("invalid-loss-mark", "conversations[0]")


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
    listed = problems(llava(id=[1], task={}, image=4, answer=""))
    assert [str(problem).split(":")[0] for problem in listed] == [
        "conversations[1].value",
        "image",
        "id",
        "task",
    ]


def test_an_evaluation_record_has_one_question() -> None:
    raw = llava(conversations=talk("a", "b", "c", "d"))
    assert len(read(raw).turns) == 4
    assert only_problem(raw, evaluation=True)[0] == "several-questions"


def test_a_system_turn_is_no_second_question() -> None:
    raw = {"conversations": [{"from": "system", "value": "Be short."}, *talk("a", "b")]}
    assert len(read(raw, evaluation=True).turns) == 3
