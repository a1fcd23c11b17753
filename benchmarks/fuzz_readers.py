"""What the fuzz campaign feeds: every reader of files that others may have written, with sound
files to start from.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cotbal.data.checks.special_tokens import read_special_tokens
from cotbal.data.reading.images import open_image, size_of
from cotbal.data.reading.records import sound_records
from cotbal.recipe.accelerate_file import of_file
from cotbal.recipe.recipe import load_recipe
from cotbal.recipe.starter import STARTER
from cotbal.recipe.strict_yaml import apply_override
from cotbal.response import prediction
from cotbal.response.trials import read_trials
from cotbal.scores.harnesses import lmms_eval, vlmevalkit
from cotbal.scores.matrix import read_scores
from cotbal.scores.results import read_results
from cotbal.scores.weights_file import read_task_weights, read_weights
from fuzz_runs import FILES, Written, read_run

RECORDED = Path(__file__).parents[1] / "tests" / "unit" / "harnesses" / "recorded"
_WORDS = (
    *rb"""true false null .inf .nan NaN -1 0 1e999 1e-9999999 9223372036854775808 4294967296 0x
    !!bool !!binary !!timestamp !!omap &a *a <<: --- ... | > ? - [ ] { } , : " ' # % @ \ud800
    \u0000 \ <image> embedded:1:../x ../../x /etc/passwd http:// data: 1/0 1/3 nan inf""".split(),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\xc3", b"\n", b"\t"),
)


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        file: name of its file.
        seeds: contents of sound files.
        read: reads the file; must return, or raise a CotbalError.
        words: what mutations put in.
        structured: whether contents are JSON of which single values can be replaced.
    """

    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    words: Sequence[bytes] = _WORDS
    structured: bool = False


def _recipe(path: Path) -> object:
    recipe = load_recipe(path)
    return recipe.fingerprint, recipe.to_yaml(), recipe.probe_runs


def _override(path: Path) -> None:
    apply_override({"optimization": {}}, path.read_bytes().decode(errors="replace"))


def _records(path: Path) -> None:
    cache = path.parent / "cache"
    for evaluation in (False, True):
        with sound_records(path, cache, evaluation) as (records, problems):
            texts = [str(problem) for problem in problems]
            assert all(len(text) < 100_000 for text in texts)
            for record in records:
                assert record.turns
    shutil.rmtree(cache, ignore_errors=True)


def _image(path: Path) -> None:
    size = size_of(path)
    assert open_image(path).size == size


def _weights(path: Path) -> None:
    read_weights(path)
    read_task_weights(path)


def _checkpoint(path: Path) -> None:
    read_special_tokens(path.parent)


def _lmms(path: Path) -> None:
    lmms_eval.read(path.parent)


def _vlmeval(path: Path) -> None:
    folder = path.parent / "m"
    folder.mkdir()
    path.rename(folder / path.name)
    vlmevalkit.read(folder)


def _rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(6):
        talk = [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": f"a frog {number}"},
        ]
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": talk, "n": 0.5})
    return rows


def _messages() -> list[dict[str, object]]:
    parts = [{"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    answer = [{"type": "text", "text": "a frog"}]
    talk = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
    images = [{"bytes": _picture("PNG"), "path": None}]
    return [{"id": str(number), "messages": talk, "images": images} for number in range(6)]


def _picture(kind: str, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.effect_noise((24, 16), 40).convert(mode).save(file, kind)
    return file.getvalue()


def _arrow() -> list[bytes]:
    contents = []
    for rows in (_rows(), _messages()):
        sink = io.BytesIO()
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        contents.append(sink.getvalue())
    return contents


def _parquet() -> list[bytes]:
    contents = []
    for rows in (_rows(), _messages()):
        for options in ({}, {"compression": "zstd", "write_page_checksum": True}):
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows), sink, **options)
            contents.append(sink.getvalue())
    return contents


def _lines(rows: Sequence[object]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _scores() -> bytes:
    samples = {
        task: {"values": [[0, 1], [1, 1]], "clusters": [0, 5], "maximum": 1} for task in "ab"
    }
    content = {
        "runs": ["mini", "full:a"],
        "tasks": ["a", "b"],
        "values": [[0.5, 0.5], [1, None]],
        "samples": samples,
    }
    return json.dumps(content).encode()


def _tokens() -> bytes:
    added = {"7": {"content": "<pad>", "special": True}, "8": {"content": "<image>"}}
    config = {"pad_token": "<pad>", "added_tokens_decoder": added, "chat_template": "{{ x }}"}
    return json.dumps({**config, "additional_special_tokens": ["<pad>"]}).encode()


def _prediction() -> bytes:
    content = {"format": prediction.FORMAT, "date": "2026-11-29", "weights": {"a": 1.5, "b": 0.5}}
    return json.dumps({**content, prediction.HASH: prediction._digest(content)}).encode()


_TALK = [*_rows(), {"messages": [{"role": "user", "content": "A"}, {"role": "assistant"}]}]
_YAML = (
    b"name: a\ntasks:\n  a: {train: t, validation: v}\n",
    b"name: a\ntasks:\n  a: &a {train: t, validation: v, test: {x: t}}\n  b: {<<: *a, group: g}\n"
    b"portions: {mini: 1/8, seed: 3}\nbalance: {seeds: [1, 2], weight_range: [0.5, 2]}\n"
    b"probes: {optimization: {epochs: 2}}\nweightings: {dwa: {window: 25}}\n",
)
_CSV = b"run,a,b\nmini,0.1,0.2\nfull:a,0.5,0.3\nfull:b,0.4,\n"
_TRIALS = b"weight:a,weight:b,score:a,score:b,seed\n1,2,0.5,0.6,0\n2,1,0.7,0.4,1\n1,1,0.5,0.5,0\n"
READERS = {
    "recipe": Reader("recipe.yaml", [STARTER.encode(), *_YAML], _recipe),
    "override": Reader("text", [b"optimization.epochs=2", b"a.b={c: [1, 2]}"], _override),
    "accelerate": Reader(
        "a.yaml",
        [b"distributed_type: FSDP\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: no}\n"],
        of_file,
    ),
    "jsonl": Reader("a.jsonl", [_lines(_TALK)], _records, structured=True),
    "json": Reader("a.json", [json.dumps(_TALK, indent=1).encode()], _records, structured=True),
    "parquet": Reader("a.parquet", _parquet(), _records),
    "arrow": Reader("a.arrow", _arrow(), _records),
    "image": Reader(
        "a.png",
        [_picture(kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA")]
        + [_picture("PNG", "LA"), _picture("PNG", "I;16"), _picture("TIFF", "F")],
        _image,
    ),
    "scores-csv": Reader("a.csv", [_CSV], read_scores),
    "scores-json": Reader("a.json", [_scores()], read_scores, structured=True),
    "results": Reader("a.csv", [b"method,a:acc,b:err-\nEW,1,2\nCoTBal,3,4\n"], read_results),
    "weights": Reader(
        "w.json",
        [b'{"weights": {"a": 1, "b": 0.5}, "tasks": {"a": 1, "b": 0.5}}', b'{"a": 1}'],
        _weights,
        structured=True,
    ),
    "trials": Reader("t.csv", [_TRIALS], read_trials),
    "prediction": Reader("p.json", [_prediction()], prediction.read_prediction),
    "checkpoint": Reader("tokenizer_config.json", [_tokens()], _checkpoint, structured=True),
    "lmms-eval": Reader(
        "20261125_021114_results.json",
        [path.read_bytes() for path in RECORDED.glob("lmms_eval/*/checkpoints__*/*_results.json")],
        _lmms,
        structured=True,
    ),
    "vlmevalkit": Reader(
        "m_POPE_score.csv",
        [b'"split","Overall","acc"\n"Overall","86.3","87.6"\n"random","87.5","88.8"\n'],
        _vlmeval,
    ),
}
for _file in FILES:  # of a run directory
    READERS[f"run/{_file}"] = Reader(
        "damaged",
        Written(_file),
        partial(read_run, _file),
        structured=_file.endswith((".json", ".jsonl")),
    )
