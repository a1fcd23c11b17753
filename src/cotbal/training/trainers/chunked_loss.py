"""The weighted loss of a head in chunks of rows, so that only the logits of one chunk exist.

The loss is a sum over tokens, so its gradient is known up to one factor as soon as the logits are.
The forward pass therefore turns the logits of each chunk into losses and into its part of the
gradient, in the same memory, and the backward pass multiplies. No logits are computed twice.

`cotbal.loss.token_losses` of all logits is the plain form, against which this one is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cotbal.errors import CotbalError
from cotbal.loss import token_losses

CHUNK = 256  # rows, at least: every chunk reads and writes the whole gradient of the weight
CACHED = 2**17  # logits that the cache of a core holds, with room for their neighbours
WORDS = 16_384  # rows of that gradient that are added at a time where a product has to be cast

Function = torch.autograd.Function


@dataclass(frozen=True)
class Finish:
    """What a model does to the outputs of its head: `cap * tanh(scale * z / cap)`.

    Attributes:
        cap: None in a model without a bound on its logits.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """The logits."""
        logits = outputs if self.scale == 1 else outputs * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def in_place(self, outputs: Tensor) -> Tensor | None:
        """Turn outputs into logits; returns the derivative, None where it is `scale`."""
        if self.scale != 1:
            outputs.mul_(self.scale)
        if self.cap is None:
            return None
        outputs.div_(self.cap).tanh_()
        derivative = outputs.square().neg_().add_(1).mul_(self.scale)
        outputs.mul_(self.cap)
        return derivative

    def differentiate(self, gradient: Tensor, derivative: Tensor | None) -> None:
        """Turn the gradient of logits into that of outputs, in place."""
        if derivative is not None:
            gradient.mul_(derivative)
        elif self.scale != 1:
            gradient.mul_(self.scale)


@dataclass(frozen=True)
class Tokens:
    """The valid tokens of a micro-batch, row after row.

    Attributes:
        targets: the tokens to predict.
        factors: what the loss of each token is multiplied by; constants, without a gradient.
        gradients: whether a backward pass may follow.
    """

    targets: Int[Tensor, " token"]
    factors: Float[Tensor, " token"]
    gradients: bool

    def chunks(self, features: int) -> list[slice]:
        """Slices of about equal size, each of at most `CHUNK` or a quarter of `features` rows."""
        count = len(self.targets)
        chunks = -(-count // max(CHUNK, features // 4))
        size = -(-count // max(1, chunks))
        return [slice(start, start + size) for start in range(0, count, max(1, size))]


def linear_head(
    rows: Float[Tensor, "token feature"], head: nn.Linear, finish: Finish, tokens: Tokens
) -> tuple[Float[Tensor, ""], Float[Tensor, " token"]]:
    """A zero that carries the gradient of `sum_i factor_i loss_i`, and the losses, detached.

    Args:
        rows: inputs of the head at the positions that predict the tokens.
        finish: what the model does to the outputs of the head.
    """
    return _apply(_LinearHead, rows, head.weight, head.bias, finish, tokens)


def any_head(
    rows: Float[Tensor, "token feature"],
    head: nn.Module,
    logits: Callable[[Tensor], Tensor],
    tokens: Tokens,
) -> tuple[Float[Tensor, ""], Float[Tensor, " token"]]:
    """As `linear_head`, by torch's own operations on each chunk.

    Args:
        head: whose parameters get gradients.
        logits: from rows to their logits.
    """
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    return _apply(_AnyHead, rows, logits, tokens, *trained)


def _apply(function: type[Function], *inputs: Any) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = function.apply(*inputs)  # type: ignore[no-untyped-call]
    return result


class _LinearHead(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, finish: Finish, tokens: Tokens
    ) -> tuple[Tensor, Tensor]:
        dtype = _compute_dtype(rows)
        wide = torch.promote_types(dtype, torch.float32)
        needed = [tokens.gradients and needs for needs in ctx.needs_input_grad[:3]]
        total = _Gradients(
            _zeros_like(rows, rows.dtype, needed[0]),
            _zeros_like(weight, wide, needed[1]),
            _zeros_like(bias, wide, needed[2]),
        )
        losses = torch.empty(len(rows), dtype=wide, device=rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            used = weight.to(dtype), None if bias is None else bias.to(dtype)
            buffer = _Buffer(used, wide)
            for part in tokens.chunks(rows.shape[1]):
                inputs = rows[part].to(dtype)
                logits = buffer.logits(inputs)
                derivative = finish.in_place(logits)
                losses[part] = _losses(logits, tokens.targets[part], tokens.factors[part])
                if any(needed):
                    finish.differentiate(logits, derivative)
                    total.add(part, inputs, buffer)
        ctx.gradients = total.cast(weight.dtype)
        ctx.mark_non_differentiable(losses)
        return losses.new_zeros(()), losses

    @staticmethod
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return (*_multiplied(ctx, factor), None, None)


class _AnyHead(Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        logits: Callable[[Tensor], Tensor],
        tokens: Tokens,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        total = [torch.zeros_like(tensor) for tensor in (rows, *parameters) if tokens.gradients]
        losses = [rows.new_zeros(0, dtype=torch.float32)]
        for part in tokens.chunks(rows.shape[1]):
            with torch.set_grad_enabled(tokens.gradients):
                inputs = rows[part].detach().requires_grad_(tokens.gradients)
                of_chunk = token_losses(logits(inputs), tokens.targets[part])
            losses.append(of_chunk.detach())
            if tokens.gradients:
                sums = {inputs: total[0][part], **dict(zip(parameters, total[1:], strict=True))}
                _add_gradients(of_chunk, tokens.factors[part], sums)
            del of_chunk  # or its logits would live beside those of the next chunk
        ctx.gradients = total
        together = torch.cat(losses)
        ctx.mark_non_differentiable(together)
        return together.new_zeros(()), together

    @staticmethod
    def backward(ctx: Any, factor: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        rows, *parameters = _multiplied(ctx, factor)
        return (rows, None, None, *parameters)


class _Buffer:
    """Memory for the logits of a chunk, then for their gradient.

    Attributes:
        weight, bias: of the head, in the dtype of its products.
        narrow: the gradient in that dtype, once `cast` was called.
    """

    def __init__(self, used: tuple[Tensor, Tensor | None], wide: torch.dtype) -> None:
        self.weight, self.bias = used
        self.narrow = self.wide = self.weight.new_empty(0)
        self._dtype = wide

    def logits(self, inputs: Tensor) -> Tensor:
        """Outputs of the head, in at least float32."""
        if len(self.narrow) < len(inputs):
            shape = len(inputs), len(self.weight)
            self.narrow = self.wide = self.weight.new_empty(shape)
            if self._dtype != self.weight.dtype:
                self.wide = self.weight.new_empty(shape, dtype=self._dtype)
        rows = len(inputs)
        self.narrow, self.wide = self.narrow[:rows], self.wide[:rows]
        if self.bias is None:
            torch.mm(inputs, self.weight.T, out=self.narrow)
        else:
            torch.addmm(self.bias, inputs, self.weight.T, out=self.narrow)
        if self.wide is not self.narrow:
            self.wide.copy_(self.narrow)
        return self.wide


@dataclass(frozen=True)
class _Gradients:
    """Sums of gradients over chunks; None where none is needed."""

    rows: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, part: slice, inputs: Tensor, buffer: _Buffer) -> None:
        """Add those of a chunk, whose gradient of outputs is in the buffer."""
        gradient = buffer.narrow
        if self.bias is not None:
            self.bias.add_(buffer.wide.sum(dim=0))
        if buffer.wide is not gradient:
            gradient.copy_(buffer.wide)
        if self.rows is not None:
            self.rows[part] = gradient @ buffer.weight
        if self.weight is not None:
            self._add_to_weight(self.weight, gradient.T, inputs)

    @staticmethod
    def _add_to_weight(total: Tensor, gradient: Tensor, inputs: Tensor) -> None:
        if total.dtype == gradient.dtype:
            total.addmm_(gradient, inputs)
            return
        for start in range(0, len(total), WORDS):
            block = slice(start, start + WORDS)
            total[block] += gradient[block] @ inputs

    def cast(self, dtype: torch.dtype) -> list[Tensor | None]:
        """Those of rows, weight and bias, the latter two in the dtype of the parameters."""
        parameters = (self.weight, self.bias)
        return [self.rows, *(None if total is None else total.to(dtype) for total in parameters)]


def _zeros_like(tensor: Tensor | None, dtype: torch.dtype, needed: bool) -> Tensor | None:
    return None if tensor is None or not needed else torch.zeros_like(tensor, dtype=dtype)


def _add_gradients(losses: Tensor, factors: Tensor, sums: Mapping[Tensor, Tensor]) -> None:
    gradients = torch.autograd.grad(losses, list(sums), factors.to(losses), materialize_grads=True)
    for total, gradient in zip(sums.values(), gradients, strict=True):
        total.add_(gradient)


def _losses(logits: Tensor, targets: Tensor, factors: Tensor) -> Tensor:
    """Losses of the tokens; leaves the gradient of their weighted sum in `logits`.

    On a CPU a few rows at a time, so that one operation finds in the cache what the last one wrote.
    """
    rows = len(logits)
    if logits.device.type == "cpu":
        rows = max(1, CACHED // logits.shape[1])
    parts = (torch.split(tensor, rows) for tensor in (logits, targets, factors))
    return torch.cat([_losses_of_rows(*part) for part in zip(*parts, strict=True)])


def _losses_of_rows(logits: Tensor, targets: Tensor, factors: Tensor) -> Tensor:
    chosen = targets[:, None]
    scale = factors.to(logits.dtype)[:, None]
    logits.sub_(logits.amax(dim=1, keepdim=True))
    of_targets = logits.gather(1, chosen)
    sums = logits.exp_().sum(dim=1, keepdim=True)
    logits.mul_(scale / sums).scatter_add_(1, chosen, -scale)
    return (sums.log() - of_targets)[:, 0]


def _compute_dtype(rows: Tensor) -> torch.dtype:
    kind = rows.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else rows.dtype


def _multiplied(ctx: Any, factor: Tensor) -> list[Tensor | None]:
    """The gradients, once: they are multiplied in place and belong to the caller.

    Raises:
        CotbalError: a second backward pass, or one through which torch would differentiate again.
    """
    gradients, ctx.gradients = ctx.gradients, None
    if gradients is None or torch.is_grad_enabled():
        raise CotbalError(
            "the gradient of the weighted loss is computed once, in the forward pass, so a second"
            " backward pass (`retain_graph`) and gradients of gradients (`create_graph`) need"
            " TaskWeightedTrainer(..., chunked_head=False)",
            "second-backward",
        )
    return [None if gradient is None else gradient.mul_(factor) for gradient in gradients]
