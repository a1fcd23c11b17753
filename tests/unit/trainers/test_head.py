"""The head of a model in chunks: the loss, gradients and updates of the plain form."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AutoModelForImageTextToText,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from cotbal.errors import CotbalError
from cotbal.loss import predicting
from cotbal.training.trainers import chunked_loss
from cotbal.training.trainers.chunked_loss import Finish
from cotbal.training.trainers.forward import valid_token_losses
from cotbal.training.trainers.head import ChunkedHead, find_head
from helpers.errors import raises
from helpers.trainer_cases import (
    EQUAL,
    TASK_LEVEL,
    WEIGHTS,
    distance,
    pad,
    rows,
    trainer_of,
    update,
)

WORDS = 400
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama(**more: Any) -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **more))


def gpt_j() -> nn.Module:
    """Its head has a bias."""
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "rotary_dim": 4, "n_inner": 32}
    model = GPTJForCausalLM(GPTJConfig(vocab_size=WORDS, **sizes, bos_token_id=1, eos_token_id=2))
    nn.init.normal_(model.lm_head.bias)
    return model


def with_lora_on_the_head() -> nn.Module:
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    return get_peft_model(llama(), config)


def with_copied_head() -> nn.Module:
    """As peft trains a head in full beside adapters."""
    return get_peft_model(
        llama(), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    )


FORMS = ("weights", "tokens", "per_device")
MODELS = {
    "linear": (llama, Finish()),
    "tied": (lambda: llama(tie_word_embeddings=True), Finish()),
    "bias": (gpt_j, Finish()),
    "cap": (lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES)), Finish(1.0, 30.0)),
    "scale": (lambda: CohereForCausalLM(CohereConfig(**SIZES)), Finish(0.0625)),
    "lora": (with_lora_on_the_head, Finish()),
    "copied": (with_copied_head, Finish()),
}


def batch_of(count: int = 6) -> dict[str, Tensor]:
    batch: dict[str, Tensor] = pad([{k: v for k, v in r.items() if k != "task"} for r in rows()])
    return {key: value[:count] for key, value in batch.items()}


def gradients(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def both_ways(model: nn.Module, batch: dict[str, Tensor], head: ChunkedHead) -> dict[str, Any]:
    """Losses and gradient: by logits, in chunks, and in chunks by autograd."""
    mask = predicting(batch["labels"])
    factors = torch.linspace(0, 1, int(mask.sum()))
    losses = valid_token_losses(model, batch, mask)[1]
    results = {"logits": (losses.detach(), gradients(model, (losses * factors).sum()))}
    for name, by_formula in (("chunks", True), ("autograd", False)):
        loss, losses = head.loss(model, batch, factors, by_formula)
        assert loss.item() == pytest.approx(float((losses * factors).sum()))
        results[name] = losses, gradients(model, loss)
    return results


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_losses_and_gradients_are_those_of_logits(
    kind: str, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK", 7)
    torch.manual_seed(0)
    build, finish = MODELS[kind]
    model, batch = build().train(), batch_of()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        head = find_head(model, batch)
        assert head == ChunkedHead(finish)
        results = both_ways(model, batch, head)
    losses, gradient = results.pop("logits")
    for other, change in results.values():
        assert torch.allclose(other, losses, atol=0.05 if autocast else 1e-5)
        assert (change - gradient).norm() < (0.02 if autocast else 2e-6) * gradient.norm()
    assert "forward" not in vars(model.get_output_embeddings())


class Masks(LlamaForCausalLM):
    """Does more to its logits than scale or bound them, as Chameleon."""

    def forward(self, *args: Any, **more: Any) -> Any:
        outputs = super().forward(*args, **more)
        outputs.logits = outputs.logits.clone()
        outputs.logits[..., 5] = -1e9
        return outputs


class Twice(LlamaForCausalLM):
    """Adds the logits of two places."""

    def forward(self, *args: Any, **more: Any) -> Any:
        outputs = super().forward(*args, **more)
        outputs.logits = outputs.logits + self.lm_head(torch.zeros(1, 1, 16))
        return outputs


class Shortened(LlamaForCausalLM):
    """Has no logits of the first position."""

    def forward(self, *args: Any, logits_to_keep: Any = 0, **more: Any) -> Any:
        return super().forward(*args, **more, logits_to_keep=slice(1, None))


class Fussy(LlamaForCausalLM):
    """Looks at the shape of its logits."""

    def forward(self, *args: Any, **more: Any) -> Any:
        outputs = super().forward(*args, **more)
        if outputs.logits.dim() != 3 or len(outputs.logits) == 1:
            raise ValueError("expected logits of several rows")
        return outputs


@pytest.mark.parametrize("kind", [Masks, Twice, Shortened, Fussy])
def test_other_heads_are_left_to_the_plain_form(kind: type[LlamaForCausalLM]) -> None:
    model = kind(LlamaConfig(**SIZES))
    assert find_head(model, batch_of()) is None
    assert "forward" not in vars(model.lm_head)


def test_float16_is_left_to_the_plain_form() -> None:
    """Its gradients are multiplied before the backward pass, or they would vanish."""
    assert find_head(llama().half(), batch_of()) is None


def test_a_head_that_was_replaced_is_left_alone() -> None:
    model: Any = llama()
    model.lm_head.forward = replacement = model.lm_head.forward
    assert find_head(model, batch_of()) is None
    assert model.lm_head.forward is replacement
    assert find_head(nn.Linear(3, 3), batch_of()) is None


@pytest.mark.parametrize(
    ("weighting", "form"),
    [
        *(pytest.param(WEIGHTS, form, id=f"{form}-cotbal") for form in FORMS),
        pytest.param(TASK_LEVEL, "weights", id="weights-tla"),
        *(
            pytest.param(weighting, form, id=f"{form}-{name}", marks=pytest.mark.extended)
            for weighting, name, forms in ((TASK_LEVEL, "tla", FORMS[1:]), (EQUAL, "ew", FORMS))
            for form in forms
        ),
    ],
)
def test_the_update_is_that_of_the_plain_form(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weighting: Any,
    form: Any,
) -> None:
    """With accumulated gradients, and more valid tokens than a chunk holds."""
    monkeypatch.setattr(chunked_loss, "CHUNK", 9)
    case = {"normalizer": form, "max_steps": 2}
    chunks = update(checkpoint, tmp_path, 2, 4, weighting, **case)
    plain = update(checkpoint, tmp_path, 2, 4, weighting, chunked_head=False, **case)
    assert distance(chunks, plain) < 1e-5
    for one, other in zip(chunks["log"][:2], plain["log"][:2], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["task_losses"] == pytest.approx(other["task_losses"], rel=1e-5)


class Largest(TorchDispatchMode):
    """Notes the rows of the largest tensor of logits or their size that an operation returns."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.words, self.rows = words, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.shape[-1:] == (self.words,):
                self.rows = max(self.rows, tensor.numel() // self.words)
        return result


@pytest.mark.parametrize("chunked", [True, False])
def test_neither_a_step_nor_the_self_check_makes_all_logits(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(chunked_loss, "CHUNK", 8)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = trainer_of(model, tmp_path, 16, 1, chunked_head=chunked)
    words = model.config.text_config.vocab_size
    positions = 16 * pad(rows())["labels"].shape[1]
    with Largest(words) as largest:
        trainer.train()
    assert (trainer.head is not None) == chunked
    assert trainer.self_check is not None
    assert trainer.self_check.error < 1e-3
    features = model.config.text_config.hidden_size  # rows of the transposed weight
    assert largest.rows == (max(8, features) if chunked else positions)


def test_the_self_check_does_not_trust_the_formula(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that loses the factors in its gradient, while the loss is right, as fused losses
    have done.
    """
    original = chunked_loss._losses

    def lossy(logits: Tensor, targets: Tensor, factors: Tensor) -> Tensor:
        return original(logits, targets, torch.full_like(factors, 0.01))

    monkeypatch.setattr(chunked_loss, "_losses", lossy)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    with raises(CotbalError, "self-check-failed"):
        trainer_of(model, tmp_path, 4, 4).train()


def test_outputs_that_somebody_reads_hold_logits(checkpoint: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = trainer_of(model, tmp_path, 4, 4)
    trainer.train()
    assert trainer.head is not None
    batch = {**pad(rows()), "task_ids": torch.zeros(16, dtype=torch.long)}
    loss, outputs = trainer.compute_loss(model.train(), batch, return_outputs=True)
    assert outputs.logits.shape[-1] == model.config.text_config.vocab_size
    alone = trainer.compute_loss(model, batch)
    assert alone.item() == pytest.approx(loss.item(), rel=1e-5)


def test_an_evaluation_that_needs_the_loss_alone_makes_no_logits(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    data = [row for row in rows() if bool(predicting(row["labels"][None]).any())]
    settings = {"per_device_eval_batch_size": len(data), "prediction_loss_only": True}
    trainer = trainer_of(model, tmp_path, 4, 4, eval_dataset=data, **settings)
    before = trainer.evaluate()["eval_loss"]  # by logits, as no training has tried the head
    trainer.head = find_head(model, pad(data))
    assert trainer.head is not None
    assert trainer.evaluate()["eval_loss"] == pytest.approx(before, rel=1e-6)


def test_a_compiled_model_keeps_its_plain_head(checkpoint: Path, tmp_path: Path) -> None:
    """It would recompile for every batch."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    trainer = trainer_of(model, tmp_path, 4, 4)
    batch = {**pad(rows()), "task_ids": torch.zeros(16, dtype=torch.long)}
    assert trainer._find_head(batch) is not None
    trainer.args = SimpleNamespace(torch_compile=True)
    assert trainer._find_head(batch) is None
