"""The forward pass of a model whose head is computed in chunks, so that it returns no logits.

Models of transformers call their head inside their forward pass, where a sharded model has its
weights together. So for the time of a forward pass the head is replaced by one that computes the
loss. In place of logits it returns a zero that carries the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cotbal.loss import predicting
from cotbal.training.trainers.chunked_loss import Finish, Tokens, any_head, linear_head
from cotbal.training.trainers.forward import Batch, for_model, logits_of, unwrapped

# Names in configurations of transformers.
MULTIPLIERS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
CAP = "final_logit_softcapping"
LARGEST = 50.0  # output of a head that is tried, far inside the range where a cap bends


@dataclass(frozen=True)
class ChunkedHead:
    """The head of a model for which `find_head` has shown that its loss can be computed in chunks.

    Attributes:
        finish: what the model does to the outputs of the head.
    """

    finish: Finish

    def loss(
        self,
        model: nn.Module,
        inputs: Batch,
        factors: Float[Tensor, " token"],
        by_formula: bool = True,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " token"]]:
        """`sum_i factor_i loss_i` over the valid tokens, and their losses, detached.

        Args:
            by_formula: compute the gradient of a linear head by its formula. Otherwise torch does
                it, which takes more time and memory; the self-check compares both.
        """
        labels, head = inputs["labels"], _head_of(model)
        assert head is not None
        mask, forward = predicting(labels), head.forward
        computed: list[Tensor] = []

        def in_chunks(hidden: Tensor) -> Tensor:
            device = next(head.parameters()).device
            tokens = Tokens(
                labels[:, 1:][mask[:, :-1]].to(device),
                factors.to(device),
                gradients=torch.is_grad_enabled(),
            )
            rows = hidden[mask].to(device)
            if by_formula and type(head) is nn.Linear:
                carrier, losses = linear_head(rows, head, self.finish, tokens)
            else:
                carrier, losses = any_head(
                    rows, head, lambda chunk: self.finish(forward(chunk)), tokens
                )
            computed.append(losses)
            return carrier.view([1] * hidden.dim())

        with _replaced(head, in_chunks):
            outputs = model(**for_model(inputs))
        (losses,) = computed
        gradient = logits_of(model, outputs).sum() / self.finish.scale
        return (losses * factors.to(losses)).sum() + gradient, losses


@torch.no_grad()
def find_head(model: nn.Module, inputs: Batch) -> ChunkedHead | None:
    """Try on a batch whether the head of a model can be computed in chunks; None if it cannot.

    The forward pass runs with a head that returns known values. They show what the model does to
    the outputs of its head, and that its logits depend on nothing else.
    """
    head = _head_of(model)
    words: int | None = getattr(head, "out_features", None)
    if head is None or words is None or "forward" in vars(head):  # somebody else has replaced it
        return None
    values = torch.linspace(-LARGEST, LARGEST, words, device=inputs["labels"].device)
    seen: list[Tensor] = []

    def known(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return values.view([1] * (hidden.dim() - 1) + [-1])

    try:
        with _replaced(head, known):
            logits = logits_of(model, model(**for_model(inputs)))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None  # a model that takes logits of another shape for an error
    per_position = [hidden.shape[:-1] == inputs["labels"].shape for hidden in seen]
    if per_position != [True] or logits.numel() != words:
        return None
    if seen[0].dtype == torch.float16:
        return None
    matching = (finish for finish in _finishes(model) if _agree(logits, finish(values)))
    return next((ChunkedHead(finish) for finish in matching), None)


def _agree(logits: Tensor, expected: Tensor) -> bool:
    logits = logits.flatten().to(expected.device)
    return logits.dtype == expected.dtype and torch.allclose(logits, expected, rtol=1e-5)


def _finishes(model: nn.Module) -> Iterator[Finish]:
    """What the configuration lets expect, then what models do without naming it."""
    config: Any = getattr(unwrapped(model), "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    factors = [getattr(text, name, None) for name in MULTIPLIERS]
    scales = [float(factor) for factor in factors if factor] + [1.0]
    caps = {getattr(text, CAP, None), None}
    for scale, cap in product(scales, caps):
        yield Finish(scale, cap)
        yield Finish(1 / scale, cap)


def _head_of(model: nn.Module) -> nn.Module | None:
    inner: Any = unwrapped(model)
    head: nn.Module | None = None
    if hasattr(inner, "get_output_embeddings"):
        head = inner.get_output_embeddings()
    return head


@contextmanager
def _replaced(head: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The head with another forward pass; hooks around it stay."""
    head.forward = forward
    try:
        yield
    finally:
        del head.forward
