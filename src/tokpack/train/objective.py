"""From a batch to the number that training makes small, for our model or anybody's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tokpack.errors import MismatchError, UsageError
from tokpack.loader.device import TensorBatch
from tokpack.specs import load
from tokpack.train.attention import AttentionPlan
from tokpack.train.config import ModelConfig, TrainConfig
from tokpack.train.devices import Compute
from tokpack.train.loss import chunk_for, cross_entropy_sum, linear_cross_entropy_sum
from tokpack.train.model import GPT
from tokpack.train.shape import padded_vocab_size

__all__ = [
    "NextTokenLoss",
    "build_model",
    "check_weights",
    "full_tensor",
    "gradients_travel",
    "load_weights",
    "make_loss",
    "parallelise",
]


class NextTokenLoss(nn.Module):
    """Sum of the losses of one micro-batch, in nats: what is compiled, and what DDP or FSDP wraps.

    A model that is no `GPT` is called as ``model(input_ids) -> logits`` (rows, seq_len, vocab_size or more),
    or ``.logits`` of what it returns; ``position_ids`` and ``segment_ids`` are handed over by name where its
    ``forward`` takes them.
    """

    def __init__(self, model: nn.Module, *, chunk: int) -> None:
        super().__init__()
        self.model = model
        self.chunk = chunk
        self.takes = frozenset(inspect.signature(model.forward).parameters)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        position_ids: Tensor | None,
        segment_ids: Tensor | None,
        plan: AttentionPlan,
    ) -> Tensor:
        """Return a float32 scalar."""
        if isinstance(self.model, GPT):
            hidden = self.model.hidden_states(input_ids, position_ids, plan)
            return linear_cross_entropy_sum(
                hidden, self.model.head_weight, self.model.padding_bias, labels, chunk=self.chunk
            )
        given = {"position_ids": position_ids, "segment_ids": segment_ids}
        wanted = {name: value for name, value in given.items() if name in self.takes and value is not None}
        output = self.model(input_ids, **wanted)
        return cross_entropy_sum(getattr(output, "logits", output), labels)

    def of(
        self, batch: TensorBatch, plan: AttentionPlan
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, AttentionPlan]:
        """Return the arguments of one call."""
        return batch.input_ids, batch.labels, batch.position_ids, batch.segment_ids, plan


def build_model(config: ModelConfig, *, isolate: bool, segmented: bool) -> nn.Module:
    """Build the model that the settings describe, on the CPU, from the current random state.

    Raises:
        UsageError: ``model.factory`` gives no module, or one that cannot keep packed documents apart.
    """
    if not config.factory:
        return GPT(config)
    made = load(config.factory)(config)
    if not isinstance(made, nn.Module):
        raise UsageError(f"model.factory {config.factory!r} returned {type(made).__name__}, no nn.Module")
    if segmented and isolate and "segment_ids" not in inspect.signature(made.forward).parameters:
        raise UsageError(
            f"the model of {config.factory!r} takes no segment_ids, so it cannot keep packed documents "
            "apart; add them to its forward, or use --set data.isolate_documents=false"
        )
    return made


def make_loss(
    model: nn.Module, config: ModelConfig, train: TrainConfig, *, tokens: int, device: torch.device
) -> NextTokenLoss:
    """Wrap a model; ``tokens`` is how many one forward pass takes."""
    if isinstance(model, GPT):
        model.activation_checkpointing = train.activation_checkpointing
    vocab_size = padded_vocab_size(config)
    return NextTokenLoss(
        model, chunk=chunk_for(train.loss_chunk_tokens, tokens=tokens, vocab_size=vocab_size, device=device)
    )


def parallelise(loss: NextTokenLoss, compute: Compute, train: TrainConfig, *, compiled: bool) -> nn.Module:
    """Compile, and spread over the processes of the run. The model's own state dict keeps its names."""
    sharded = train.parallel == "fsdp" and compute.world_size > 1
    if sharded:
        for block in getattr(loss.model, "blocks", []):
            fully_shard(block)
        fully_shard(loss)
    if compiled:
        # Shapes are the same at every step, so each graph is compiled once.
        loss.compile(dynamic=False, mode=train.compile_mode or None)
    if compute.world_size == 1 or sharded:
        return loss
    devices = [compute.device.index] if compute.device.type == "cuda" else None
    return DistributedDataParallel(
        loss, device_ids=devices, gradient_as_bucket_view=True, broadcast_buffers=False
    )


def gradients_travel(module: nn.Module, now: bool) -> None:
    """Say whether the next backward pass exchanges gradients between ranks: only a step's last does."""
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = now
    elif isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor that FSDP2 spread over ranks; every rank must ask. Others are returned as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise MismatchError where names or shapes of a checkpoint are not the model's."""
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        name = next(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
        raise MismatchError(
            f"the checkpoint is of another model: {name!r} is {found.get(name, 'not in it')}, the model's is "
            f"{wanted.get(name, 'not there')}; use the settings it was made with"
        )


@torch.no_grad()
def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights into a model, sharded or not."""
    for name, target in model.state_dict().items():
        value = tensors[name].to(target.device)
        if isinstance(target, DTensor):
            value = distribute_tensor(value, target.device_mesh, target.placements)
        target.copy_(value)
