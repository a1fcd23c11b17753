"""Small releases in the real formats of the public data sets, with texts of our own, for the tests
of `prepare`.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LIGHT, DARK = 458752, 524291  # ids of COCO images, train2014
HELD = (262144, 262148, 393225)  # and val2014


def as_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def as_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def drawing(colour: str, kind: str = "JPEG", size: tuple[int, int] = (32, 24)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, kind)
    return content.getvalue()


def write_image(raw: Path, name: str, colour: str = "teal") -> None:
    path = raw / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawing(colour, "PNG" if name.endswith("png") else "JPEG"))


# VQAv2: two training images, one with two questions; answers unanimous and split.


def _annotation(question_id: int, answer: str, given: Iterable[str]) -> dict[str, Any]:
    return {
        "question_type": "what",
        "answer_type": "other",
        "image_id": question_id // 1000,
        "question_id": question_id,
        "multiple_choice_answer": answer,
        "answers": [
            {"answer": a, "answer_confidence": "yes", "answer_id": i}
            for i, a in enumerate(given, 1)
        ],
    }


def vqav2_questions(subset: str) -> list[tuple[int, str, str]]:
    if subset == "train2014":
        return [
            (LIGHT * 1000, "What hangs over the door?", "lamp"),
            (DARK * 1000, "Is it raining?", "no"),
            (LIGHT * 1000 + 1, "How many steps are there?", "3"),
        ]
    return [
        (image * 1000 + k, f"Which shape is number {k} of {image}?", "round")
        for image in HELD
        for k in range(2)
    ]


def vqav2(raw: Path) -> None:
    for subset in ("train2014", "val2014"):
        asked = vqav2_questions(subset)
        head = {
            "info": {"version": "2.0"},
            "license": {},
            "data_type": "mscoco",
            "data_subtype": subset,
        }
        questions = [{"image_id": i // 1000, "question": q, "question_id": i} for i, q, _ in asked]
        as_json(
            raw / f"vqav2/v2_OpenEnded_mscoco_{subset}_questions.json",
            {**head, "task_type": "Open-Ended", "questions": questions},
        )
        given = [["lamp"] * 10, ["no"] * 6 + ["yes"] * 4, ["3"] * 10]
        notes = [_annotation(i, a, given[k % 3]) for k, (i, _, a) in enumerate(asked)]
        as_json(
            raw / f"vqav2/v2_mscoco_{subset}_annotations.json", {**head, "annotations": notes[::-1]}
        )
    write_image(raw, f"coco/train2017/{LIGHT:012d}.jpg")
    write_image(raw, f"coco/train2017/{DARK:012d}.jpg")
    write_image(raw, f"coco/val2017/{HELD[0]:012d}.jpg")
    write_image(raw, f"coco/train2017/{HELD[1]:012d}.jpg")
    write_image(raw, f"coco/val2014/COCO_val2014_{HELD[2]:012d}.jpg")


def vqav2_hub(raw: Path) -> None:
    rows = [
        {
            **_annotation(i, a, [a] * 10),
            "question": q,
            "image": {"bytes": drawing("navy"), "path": None},
        }
        for i, q, a in vqav2_questions("val2014")
    ]
    folder = raw / "lmms-lab/VQAv2/data"
    as_parquet(folder / "validation-00000-of-00002.parquet", rows[:4])
    as_parquet(folder / "validation-00001-of-00002.parquet", rows[4:])


def vqav2_server(
    raw: Path, dev: Iterable[int] = (9001, 9000), whole: Iterable[int] = (9000, 12000, 9001)
) -> None:
    """Questions without answers: those of test-dev, and those of all of test2015."""
    for subset, ids in (("test-dev2015", dev), ("test2015", whole)):
        questions = [
            {"image_id": i // 1000, "question": f"Is it {i % 1000}?", "question_id": i} for i in ids
        ]
        head = {
            "info": {},
            "license": {},
            "data_type": "mscoco",
            "data_subtype": subset,
            "task_type": "Open-Ended",
        }
        as_json(
            raw / f"vqav2/v2_OpenEnded_mscoco_{subset}_questions.json",
            {**head, "questions": questions},
        )


# GQA: an image with two questions and one with one.

_GQA_REST: dict[str, Any] = {
    "isBalanced": True,
    "groups": {"global": "side", "local": "10-fork"},
    "entailed": [],
    "equivalent": ["02930152"],
    "types": {"detailed": "choose", "semantic": "rel", "structural": "choose"},
    "semanticStr": "select: fork [0]",
    "annotations": {"answer": {}, "question": {"4": "719642"}, "fullAnswer": {}},
    "fullAnswer": "It is on the right.",
    "semantic": [{"operation": "select", "dependencies": [], "argument": "fork (719642)"}],
}


def gqa_questions(subset: str) -> dict[str, tuple[str, str, str]]:
    stem = {"train": "2354", "val": "1159", "testdev": "n161"}[subset]
    return {
        f"0{len(subset)}930152": (f"{stem}786", "On which side is the fork?", "right"),
        f"0{len(subset)}930153": (f"{stem}787", "What is above the shelf?", "clock"),
        f"0{len(subset)}930154": (f"{stem}786", "Is the cup full?", "no"),
    }


def gqa(raw: Path) -> None:
    for subset in ("train", "val", "testdev"):
        rows = {
            identity: {"question": q, "imageId": image, "answer": a, **_GQA_REST}
            for identity, (image, q, a) in gqa_questions(subset).items()
        }
        as_json(raw / f"gqa/questions1.2/{subset}_balanced_questions.json", rows)
        for image, _, _ in gqa_questions(subset).values():
            write_image(raw, f"gqa/images/{image}.jpg")


def gqa_hub(raw: Path) -> None:
    for subset in ("train", "val", "testdev"):
        asked = gqa_questions(subset)
        rest = {
            **_GQA_REST,
            "annotations": "{}",
            "entailed": "[]",
            "equivalent": "[]",
            "types": "{}",
        }
        rows = [
            {"id": k, "imageId": i, "question": q, "answer": a, **rest}
            for k, (i, q, a) in asked.items()
        ]
        shown = [
            {"id": i, "image": {"bytes": drawing("olive"), "path": i}}
            for i in {i for i, _, _ in asked.values()}
        ]
        as_parquet(
            raw / f"lmms-lab/GQA/{subset}_balanced_instructions/{subset}-00000-of-00001.parquet",
            rows,
        )
        as_parquet(
            raw / f"lmms-lab/GQA/{subset}_balanced_images/{subset}-00000-of-00001.parquet", shown
        )


# ChartQA: questions of people and others that share a chart.

CHARTS = {
    "human": [
        ("41699.png", "Which bar is the tallest?", "blue"),
        ("00339.png", "How many lines are there?", "4"),
    ],
    "augmented": [
        ("41699.png", "What was sold in 2011?", "12.5"),
        ("two_col_7.png", "What is the peak?", "March"),
    ],
}


def chartqa(raw: Path) -> None:
    for subset in ("train", "val", "test"):
        folder = raw / "chartqa/ChartQA Dataset" / subset
        for kind, asked in CHARTS.items():
            as_json(
                folder / f"{subset}_{kind}.json",
                [{"imgname": i, "query": q, "label": a} for i, q, a in asked],
            )
            for name, _, _ in asked:
                (folder / "png").mkdir(exist_ok=True)
                (folder / "png" / name).write_bytes(drawing("gold", "PNG"))


def chartqa_hub(raw: Path) -> None:
    colours = {"41699.png": "gold", "00339.png": "red", "two_col_7.png": "lime"}
    for subset in ("train", "val", "test"):
        rows = [
            {
                "image": {"bytes": drawing(colours[name], "PNG"), "path": None},
                "query": q,
                "label": [a],
                "human_or_machine": machine,
            }
            for machine, kind in enumerate(CHARTS)
            for name, q, a in CHARTS[kind]
        ]
        as_parquet(
            raw / f"HuggingFaceM4/ChartQA/data/{subset}-00000-of-00001-49492f364babfa44.parquet",
            rows,
        )


# OCR-VQA: covers of all three splits, one with an empty answer.


def covers() -> dict[str, tuple[int, list[str], list[str]]]:
    who, what = "Who wrote it?", "What is its title?"
    return {
        "0761183272": (1, [who, what], ["Ada Quill", "Tides"]),
        "1421508161": (1, [who, what], ["", "Moss"]),
        "0439136350": (1, [what], ["Lanterns"]),
        "0393062252": (2, [who, what], ["Bo Reed", "Kites"]),
        "1554076471": (3, [who], ["Cy Vale"]),
    }


def ocrvqa(raw: Path) -> None:
    rows = {
        key: {
            "imageURL": f"http://example.invalid/{key}.jpg",
            "questions": q,
            "answers": a,
            "title": "T",
            "authorName": "N",
            "genre": "G",
            "split": split,
        }
        for key, (split, q, a) in covers().items()
    }
    as_json(raw / "ocrvqa/dataset.json", rows)
    for key in rows:
        write_image(raw, f"ocr_vqa/images/{key}.jpg")


def ocrvqa_hub(raw: Path) -> None:
    for number, split in enumerate(("train", "validation", "test"), 1):
        rows = [
            {
                "image": {"bytes": drawing("plum"), "path": f"{key}.jpg"},
                "image_id": key,
                "questions": q,
                "answers": a,
                "ocr_tokens": ["T"],
                "ocr_info": [{"word": "T", "bounding_box": {"width": 0.1}}],
                "title": "T",
                "authorName": "N",
                "genre": "G",
                "image_width": 32,
                "image_height": 24,
                "image_url": "http://example.invalid",
                "set_name": split,
            }
            for key, (which, q, a) in covers().items()
            if which == number
        ]
        as_parquet(
            raw / f"howard-hou/OCR-VQA/data/{split}-00000-of-00001-45d65f5057dd1a9e.parquet", rows
        )


# RefCOCO and RefCOCOg: a landscape and a portrait image; the first has eleven sentences in
# training.

SIZES = {LIGHT: (640, 480), DARK: (400, 500), 700001: (200, 200)}
SPLITS = {"refcoco": ("train", "val", "testA", "testB"), "refcocog": ("train", "val", "test")}
Ref = tuple[int, int, str, list[str]]


def refs(dataset: str) -> list[Ref]:
    """ref_id, image, split and sentences; not in the order of their ids."""
    if dataset == "refcoco":
        many = [f"the lady number {k}" for k in range(8)]
        regions = [
            (7, LIGHT, "train", ["third person from right", "red hat"]),
            (2, LIGHT, "train", many),
        ]
        regions.append((5, DARK, "train", ["tall vase"]))
        return regions + [
            (20 + k, 700001, s, [f"cat of {s}", "grey one"])
            for k, s in enumerate(("val", "testA", "testB"))
        ]
    regions = [(1, LIGHT, "train", ["a bench right in the sun"])]
    return regions + [(30 + k, DARK, s, [f"a boat of {s}"]) for k, s in enumerate(("val", "test"))]


def _ref(number: int, image: int, split: str, said: list[str]) -> dict[str, Any]:
    sentences = [
        {"tokens": s.split(), "raw": s.upper(), "sent_id": number * 100 + k, "sent": s}
        for k, s in enumerate(said)
    ]
    return {
        "sent_ids": [s["sent_id"] for s in sentences],
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",
        "ann_id": 1700000 + number,
        "ref_id": number,
        "image_id": image,
        "split": split,
        "sentences": sentences,
        "category_id": 1,
    }


def _box(number: int) -> list[float]:
    return [64.0 + number, 48.5, 128.0, 96.25]


def _annotations(dataset: str) -> list[dict[str, Any]]:
    return [
        {
            "id": 1700000 + n,
            "image_id": i,
            "category_id": 1,
            "bbox": _box(n),
            "segmentation": [[1.5, 2.5]],
            "iscrowd": 0,
        }
        for n, i, _, _ in refs(dataset)
    ]


def _image(image: int) -> dict[str, Any]:
    width, height = SIZES[image]
    return {
        "id": image,
        "file_name": f"COCO_train2014_{image:012d}.jpg",
        "height": height,
        "width": width,
        "license": 1,
    }


def refcoco(raw: Path) -> None:
    for dataset, by in (("refcoco", "unc"), ("refcocog", "umd")):
        content = [_ref(*ref) for ref in refs(dataset)]
        (raw / dataset).mkdir(parents=True, exist_ok=True)
        (raw / dataset / f"refs({by}).p").write_bytes(pickle.dumps(content, protocol=0))
        tables = {
            "info": {},
            "images": [_image(i) for i in SIZES],
            "annotations": _annotations(dataset),
            "categories": [{"id": 1, "name": "person"}],
        }
        as_json(raw / dataset / "instances.json", tables)
    for image in SIZES:
        write_image(raw, f"coco/train2017/{image:012d}.jpg")


def refcoco_hub(raw: Path) -> None:
    names = {"val": "validation", "testA": "test"}
    for dataset, splits in SPLITS.items():
        for split in splits:
            rows = [_hub_ref(ref) for ref in refs(dataset) if ref[2] == split]
            as_parquet(
                raw
                / f"jxu124/{dataset}/data/{names.get(split, split)}-00000-of-00001-94431d5f4bd5.parquet",
                rows,
            )
    for image in SIZES:
        write_image(raw, f"coco/train2014/COCO_train2014_{image:012d}.jpg")


def _hub_ref(ref: Ref) -> dict[str, Any]:
    number, image, _, said = ref
    x, y, w, h = _box(number)
    return {
        **_ref(*ref),
        "raw_anns": json.dumps({"id": 1700000 + number, "bbox": [x, y, w, h]}),
        "raw_image_info": json.dumps(_image(image)),
        "raw_sentences": "[]",
        "image_path": "coco/train2014/x.jpg",
        "bbox": [x, y, x + w, y + h],
        "captions": said,
        "global_image_id": f"coco.{image}",
        "anns_id": f"coco.{number}",
    }


# ShareGPT4V, ShareGPT and LLaVA-1.5's mixture.


def talk(*texts: str, roles: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": roles[index % 2], "value": text} for index, text in enumerate(texts)]


def sharegpt4v(raw: Path) -> None:
    names = [
        "coco/train2017/000000000009.jpg",
        "sam/images/sa_545504.jpg",
        "llava/llava_pretrain/images/00453/00.jpg",
        "share_textvqa/images/03e.jpg",
        "web-celebrity/images/1.jpg",
        "wikiart/images/2.jpg",
    ]
    asked = ["<image>\nDescribe it.", "Describe it.\n<image>"]
    rows = [
        {
            "id": Path(name).stem,
            "image": name,
            "conversations": talk(asked[k % 2], f"A scene with {k} birds."),
        }
        for k, name in enumerate(names)
    ]
    rows.append({**rows[0], "conversations": talk("What is there?\n<image>", "Some trees.")})
    as_json(raw / "Lin-Chen/ShareGPT4V/sharegpt4v_instruct_gpt4-vision_cap100k.json", rows)
    for name in names:
        write_image(raw, name)


def dump() -> list[dict[str, Any]]:
    """Records of the ShareGPT dump that each meet one rule; only those whose id begins with `good`
    stay.
    """
    hello = {"from": "gpt", "value": "Hello."}
    kind = {"from": "system", "value": "Be kind."}
    long = ("How do I tie a knot?", "Make a loop, and pull.")
    return [
        {"id": "good_plain", "conversations": talk(*long)},
        {"id": "good_first_gpt", "conversations": [hello, *talk("Why is rain wet?", long[1])]},
        {"id": "blocked", "conversations": talk("Who made you?", "OpenAI did, of course.")},
        {
            "id": "limited",
            "conversations": talk("Say more.", "Too many requests in 1 hour. Try again later."),
        },
        {"id": "good_plain", "conversations": talk("Another text here", "under the same id")},
        {"id": "same_beginning", "conversations": talk(*long, "And then?", "Pull harder.")},
        {
            "id": "good_odd",
            "conversations": talk("Name a tree, please.", "An oak.", "And one more?"),
        },
        {"id": "system_inside", "conversations": [*talk(*long), kind, *talk(*long)]},
        {
            "id": "other_roles",
            "conversations": talk("Count to three.", "One, two, three.", roles=("user", "bing")),
        },
        {
            "id": "good_stops",
            "conversations": talk(
                "Tell a tale.", "Once upon a time.", "And then?", "", "Oh.", "No."
            ),
        },
        {"id": "short", "conversations": talk("Hi", "Hello")},
        {"id": "single", "conversations": talk("Nobody answered this one.")},
        {
            "id": "plugged",
            "conversations": talk("What is the weather?", "It is sunny today."),
            "plugins": ["w"],
        },
    ]


def sharegpt(raw: Path) -> None:
    folder = raw / "anon8231489123/ShareGPT_Vicuna_unfiltered"
    as_json(folder / "ShareGPT_V3_unfiltered_cleaned_split.json", dump())


def mix665k(raw: Path) -> None:
    rows = [
        _mixed("000000033471", "coco/train2017/000000033471.jpg", "<image>\nWhat?", "A bus"),
        _mixed(
            "2354786", "gqa/images/2354786.jpg", "<image>\nWhere?\nAnswer.", "Left", "Who?", "Me"
        ),
        _mixed("0439136350", "ocr_vqa/images/0439136350.jpg", "<image>\nTitle?", "Lanterns"),
        {
            "id": "wNBG8Gp_0",
            "model": "",
            "conversations": talk("How deep is a well?", "It depends."),
        },
    ]
    as_json(raw / "liuhaotian/LLaVA-Instruct-150K/llava_v1_5_mix665k.json", rows)


def _mixed(identity: str, image: str, *texts: str) -> dict[str, Any]:
    return {"id": identity, "image": image, "conversations": talk(*texts)}


ORIGINAL: dict[str, Callable[[Path], None]] = {
    "VQAv2": vqav2,
    "GQA": gqa,
    "ChartQA": chartqa,
    "OCRVQA": ocrvqa,
    "RefCOCO-caption": refcoco,
    "RefCOCO-bbox": refcoco,
    "ShareGPT4V": sharegpt4v,
    "ShareGPT": sharegpt,
}
HUB: dict[str, Callable[[Path], None]] = {
    "GQA": gqa_hub,
    "ChartQA": chartqa_hub,
    "OCRVQA": ocrvqa_hub,
    "RefCOCO-caption": refcoco_hub,
    "RefCOCO-bbox": refcoco_hub,
}


def everything(raw: Path) -> Path:
    """All eight tasks in their original form."""
    for write in ORIGINAL.values():
        write(raw)
    return raw
