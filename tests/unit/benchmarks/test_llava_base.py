"""`cotbal prepare llava-base`: Vicuna, CLIP and a projector of the same architectures become one
LLaVA, tiny here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from cotbal.benchmarks import llava_base
from cotbal.benchmarks.llava_base import assemble
from cotbal.benchmarks.zeroshot.checkpoint import plan_preparation, vicuna_template
from cotbal.errors import CotbalError, MissingDependency
from helpers.errors import raises
from helpers.shell import cotbal

WORDS = ["<unk>", "<s>", "</s>", *map(chr, range(32, 127))]
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
SIDE, PATCH = 28, 14

Parts = tuple[Path, Path, Path]  # Vicuna, CLIP, projector
Spoil = Callable[[Parts], Any]


def vicuna(directory: Path) -> LlamaForCausalLM:
    """As on the hub: weights as pickles in shards, with buffers of an older transformers among
    them.
    """
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(WORDS), pad_token_id=0, **{**SMALL, "hidden_size": 24})
    )
    model.half().config.save_pretrained(directory)
    described = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**described, "dtype": "float16"}))
    weights = dict(model.state_dict())
    weights |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(3)}
    names = list(weights)
    shards = {
        "pytorch_model-00001-of-00002.bin": names[:7],
        "pytorch_model-00002-of-00002.bin": names[7:],
    }
    for file, parameters in shards.items():
        torch.save({name: weights[name] for name in parameters}, directory / file)
    places = {name: file for file, parameters in shards.items() for name in parameters}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    tokens = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
    ).save_pretrained(directory)
    return model.float()


def clip(directory: Path, kind: str = "whole, pickled") -> CLIPModel:
    """As on the hub, or in safetensors, or the tower alone, as transformers saves it."""
    torch.manual_seed(2)
    vision = {**SMALL, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 8}
    words = {**SMALL, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "projection_dim": 8}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=words, projection_dim=8)).eval()
    (model.vision_model if kind == "tower" else model).save_pretrained(directory)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(directory)
    if kind == "whole, pickled":
        (directory / "model.safetensors").unlink()
        positions = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
        torch.save({**model.state_dict(), **positions}, directory / "pytorch_model.bin")
    return model


def two_layers(
    path: Path, vision: int = 16, language: int = 24, prefix: str = "model.mm_projector."
) -> dict[str, Any]:
    torch.manual_seed(3)
    out = (language,)
    shapes = {
        "0.weight": (language, vision),
        "0.bias": out,
        "2.weight": (language, language),
        "2.bias": out,
    }
    weights = {
        f"{prefix}{name}": torch.randn(shape, dtype=torch.bfloat16)
        for name, shape in shapes.items()
    }
    torch.save(weights, path)
    return weights


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return tmp_path / "vicuna", tmp_path / "clip", tmp_path / "mm_projector.bin"


def build(
    parts: Parts, kind: str = "whole, pickled"
) -> tuple[LlamaForCausalLM, CLIPModel, dict[str, Any]]:
    return vicuna(parts[0]), clip(parts[1], kind), two_layers(parts[2])


def by_hand(
    language: Any, tower: Any, layers: dict[str, Any], ids: torch.Tensor, pixels: torch.Tensor
) -> torch.Tensor:
    """Logits of the parts: the layer of CLIP before its last, without the class token, through the
    two layers.
    """
    seen = tower.vision_model(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
    w = {
        name.removeprefix("model.mm_projector."): weight.float() for name, weight in layers.items()
    }
    hidden = torch.nn.functional.gelu(seen @ w["0.weight"].T + w["0.bias"])
    images = hidden @ w["2.weight"].T + w["2.bias"]
    words = language.get_input_embeddings()(ids.clamp(max=len(WORDS) - 1))
    where = (ids == len(WORDS)).unsqueeze(-1)
    return language(inputs_embeds=words.masked_scatter(where, images)).logits


@pytest.mark.parametrize(
    "kind",
    [
        "whole, safe",
        *(pytest.param(kind, marks=pytest.mark.extended) for kind in ("whole, pickled", "tower")),
    ],
)
def test_the_whole_computes_what_its_parts_compute(parts: Parts, tmp_path: Path, kind: str) -> None:
    language, tower, layers = build(parts, kind)
    made = assemble(*parts, tmp_path / "base", vicuna_template())
    model, loading = AutoModelForImageTextToText.from_pretrained(
        made, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(made)
    talk = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who waits?"}]}
    ]
    text = processor.apply_chat_template(talk, add_generation_prompt=True)
    inputs = processor(
        images=[Image.new("RGB", (60, 30), "teal")], text=[text], return_tensors="pt"
    )
    assert (inputs["input_ids"] == len(WORDS)).sum() == (SIDE // PATCH) ** 2
    with torch.no_grad():
        logits = model(**inputs).logits
        wanted = by_hand(language, tower, layers, inputs["input_ids"], inputs["pixel_values"])
    torch.testing.assert_close(logits[..., : len(WORDS)], wanted)
    assert wanted.std() > 0.01


def test_new_tokens_are_no_more_likely_than_the_old_ones_on_average(
    parts: Parts, tmp_path: Path
) -> None:
    build(parts)
    model = AutoModelForImageTextToText.from_pretrained(
        assemble(*parts, tmp_path / "base", vicuna_template()), dtype=torch.float32
    )
    old = len(WORDS)
    assert model.lm_head.weight.shape == (128, 24)
    with torch.no_grad():
        chances = model(input_ids=torch.arange(3, 60)[None]).logits.softmax(-1)[0]
    assert (chances[:, old:].mean(-1) <= chances[:, :old].mean(-1)).all()


def test_the_checkpoint_is_as_it_should_be_for_training_and_evaluation(
    parts: Parts, tmp_path: Path
) -> None:
    build(parts)
    made = tmp_path / "base"
    assert str(made) in cotbal("prepare", "llava-base", *parts, made)
    assert plan_preparation(made, as_trained=False).changes == ()
    processor, config = (
        AutoProcessor.from_pretrained(made),
        json.loads((made / "config.json").read_text()),
    )
    assert processor.tokenizer.convert_tokens_to_ids(["<image>", "<pad>"]) == [
        len(WORDS),
        len(WORDS) + 1,
    ]
    assert processor.tokenizer.pad_token == "<pad>"
    assert (config["dtype"], config["vision_feature_layer"], config["image_token_index"]) == (
        "float16",
        -2,
        len(WORDS),
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "base",
        "clip",
        "mm_projector.bin",
        "vicuna",
    ]


def test_weights_keep_their_dtypes(parts: Parts, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    build(parts)
    weights = load_file(
        assemble(*parts, tmp_path / "base", vicuna_template()) / "model.safetensors"
    )
    for part, dtype in (
        ("lm_head", torch.float16),
        ("projector", torch.bfloat16),
        ("vision_tower", torch.float32),
    ):
        assert {weight.dtype for name, weight in weights.items() if part in name} == {dtype}


def sentence_pieces(directory: Path) -> None:
    """The tokenizer as Vicuna's is published: tokenizer.model and its description, without
    tokenizer.json.
    """
    import sentencepiece

    (directory / "tokenizer.json").unlink()
    text = directory.parent / "text.txt"
    text.write_text(
        "\n".join(f"Heron {i} waits at pier {7 * i}, by the old boats." for i in range(200))
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(directory / "tokenizer"),
        vocab_size=len(WORDS),
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "legacy": False,
    }
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", **settings})
    )


def test_a_tokenizer_of_sentence_pieces_is_converted(parts: Parts, tmp_path: Path) -> None:
    build(parts)
    sentence_pieces(parts[0])
    tokenizer = AutoProcessor.from_pretrained(
        assemble(*parts, tmp_path / "base", vicuna_template())
    ).tokenizer
    ids = tokenizer("Heron waits at the pier. <image></s>").input_ids
    assert (ids[0], ids[-2:]) == (1, [len(WORDS), 2])
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "Heron waits at the pier."


def test_a_tokenizer_that_forgets_the_first_token_is_rejected(parts: Parts, tmp_path: Path) -> None:
    build(parts)
    described = json.loads((parts[0] / "tokenizer.json").read_text())
    (parts[0] / "tokenizer.json").write_text(json.dumps({**described, "post_processor": None}))
    with raises(CotbalError, "unsupported-checkpoint", "vicuna", "<s>", "add_bos_token"):
        assemble(*parts, tmp_path / "base", vicuna_template())


def test_what_converts_it_is_named(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(parts)
    (parts[0] / "tokenizer.json").unlink()
    monkeypatch.setattr(
        llava_base, "find_spec", lambda name: None if name == "sentencepiece" else find_spec(name)
    )
    with raises(MissingDependency, "missing-dependency", "cotbal[llava]"):
        assemble(*parts, tmp_path / "base", vicuna_template())


class _Spy:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this ran",))


def _without_head(parts: Parts) -> None:
    shard = parts[0] / "pytorch_model-00002-of-00002.bin"
    torch.save(
        {name: w for name, w in torch.load(shard).items() if name != "lm_head.weight"}, shard
    )


def _with(name: str, content: str) -> Spoil:
    def change(parts: Parts) -> None:
        described = json.loads((parts[0].parent / name).read_text())
        (parts[0].parent / name).write_text(json.dumps({**described, **json.loads(content)}))

    return change


def _saved(content: Any) -> Spoil:
    return lambda parts: torch.save(content, parts[2])


def _removed(part: int, name: str = "") -> Spoil:
    return lambda parts: (parts[part] / name if name else parts[part]).unlink()


SPOILT: list[tuple[Spoil, str, str]] = [
    (lambda parts: two_layers(parts[2], language=40), "incompatible-weights", "linear_1.weight"),
    (
        lambda parts: two_layers(parts[2], prefix="model.other."),
        "incompatible-weights",
        "model.other.0.weight",
    ),
    (
        _saved({"model.embed_tokens.weight": torch.ones(2)}),
        "incompatible-weights",
        "model.embed_tokens.weight",
    ),
    (
        _saved({"model.mm_projector.0.weight": torch.ones(24, 16)}),
        "incompatible-weights",
        "linear_1.bias",
    ),
    (_saved({"w": _Spy()}), "broken-file", "mm_projector.bin"),
    (_saved([torch.ones(2)]), "broken-file", "list"),
    (lambda parts: parts[2].write_bytes(b"<html>"), "broken-file", "mm_projector.bin"),
    (_removed(2), "missing-file", "mm_projector.bin"),
    (_without_head, "incompatible-weights", "vicuna: lm_head.weight"),
    (
        _removed(0, "pytorch_model-00002-of-00002.bin"),
        "missing-file",
        "pytorch_model-00002-of-00002.bin",
    ),
    (
        lambda parts: (parts[0] / "pytorch_model.bin.index.json").write_text("[]"),
        "broken-file",
        "pytorch_model.bin.index.json",
    ),
    (_removed(1, "pytorch_model.bin"), "missing-file", "model.safetensors or pytorch_model.bin"),
    (
        lambda parts: (parts[1] / "model.safetensors").write_bytes(b"x" * 40),
        "broken-file",
        "clip/model.safetensors",
    ),
    (_removed(1, "preprocessor_config.json"), "missing-file", "preprocessor_config.json"),
    (
        lambda parts: (parts[0] / "config.json").write_text("{"),
        "broken-file",
        "vicuna/config.json",
    ),
    (
        _with("vicuna/config.json", '{"model_type": "mistral"}'),
        "unsupported-checkpoint",
        "'mistral'",
    ),
    (
        _with("vicuna/config.json", '{"num_hidden_layers": 2}'),
        "incompatible-weights",
        "vicuna: model.layers.2.self_attn.q_proj.weight",
    ),
    (
        _with("clip/preprocessor_config.json", '{"crop_size": 224}'),
        "unsupported-checkpoint",
        "224",
    ),
]


@pytest.mark.parametrize(("spoil", "code", "name"), SPOILT)
def test_parts_that_do_not_fit_are_rejected(
    parts: Parts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Spoil,
    code: str,
    name: str,
) -> None:
    build(parts)
    spoil(parts)
    with raises(CotbalError, code, name):
        assemble(*parts, tmp_path / "base", vicuna_template())
    assert not (tmp_path / "base").exists()
    assert "this ran" not in capsys.readouterr().out


def test_a_vision_model_of_another_kind_is_rejected(parts: Parts, tmp_path: Path) -> None:
    build(parts)
    (parts[1] / "config.json").write_text('{"model_type": "siglip_vision_model"}')
    with raises(CotbalError, "unsupported-checkpoint", "clip", "siglip_vision_model"):
        assemble(*parts, tmp_path / "base", vicuna_template())


def test_what_is_there_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with raises(CotbalError, "existing-output", tmp_path / "base"):
        assemble(*parts, tmp_path / "base", vicuna_template())
