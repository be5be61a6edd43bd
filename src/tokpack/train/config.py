"""Every setting of a training run, typed.

Settings come from four places, the later winning: the defaults below, a preset, a TOML file, and overrides
such as ``optim.lr=3e-4``. A value of 0 or "" that says so below means "work it out"; what was worked out
is what the run saves, so that the saved file alone repeats the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EvalConfig",
    "LogConfig",
    "ModelConfig",
    "OptimConfig",
    "SampleConfig",
    "ScheduleConfig",
    "Settings",
    "TrainConfig",
]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of the network. The defaults are GPT-2's architecture at a very small size."""

    factory: str = ""  # "module:function" that returns another nn.Module; the shape below is then its own
    vocab_size: int = 0  # 0: the dataset's
    pad_vocab_to: int = 64  # embedding rows are rounded up to this multiple; padded ids are never predicted
    seq_len: int = 0  # longest sequence the model can take; 0: data.seq_len
    num_layers: int = 4
    hidden_size: int = 128
    num_heads: int = 4
    num_kv_heads: int = 0  # 0: num_heads; fewer: grouped-query attention
    head_dim: int = 0  # 0: hidden_size / num_heads
    ffn_size: int = 0  # 0: 4 × hidden_size
    norm: Literal["layer", "rms"] = "layer"
    norm_eps: float = 1e-5
    norm_offset: bool = False  # RMSNorm multiplies by 1 + weight (Gemma)
    post_norm: bool = False  # a further norm after attention and after the feed-forward part (Gemma)
    position: Literal["learned", "rope"] = "learned"
    rope_theta: float = 10_000.0
    rope_theta_local: float = 0.0  # of sliding-window layers; 0: rope_theta
    activation: Literal["gelu", "swiglu", "geglu"] = "gelu"
    bias: bool = True
    qk_norm: bool = False  # RMSNorm on queries and keys, per head
    attention_scale: float = 0.0  # 0: 1 / sqrt(head_dim)
    sliding_window: int = 0  # tokens a local layer looks back, itself included; 0: every layer sees all
    global_every: int = 0  # every n-th layer is global; 0: all are local where sliding_window is set
    tied: bool = True  # the output layer is the embedding
    scale_embedding: bool = False  # multiply embeddings by sqrt(hidden_size) (Gemma)
    dropout: float = 0.0
    init_std: float = 0.02


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is read, and how rows are cut."""

    dataset: str = "./tokenized"
    mixture: dict[str, float] = field(default_factory=dict)  # instead: weights of several datasets, by path
    train_split: str = "train"
    validation_split: str = "validation"
    sampler: str = "random-block"
    sampler_options: dict[str, Any] = field(default_factory=dict)
    seq_len: int = 256
    batch_size: int = 16  # rows per device and forward pass
    global_batch_size: int = 0  # rows per optimizer step over all ranks; 0: batch_size × world size
    isolate_documents: bool = True  # of packed rows: attention stays inside a document
    populate: bool = True  # touch the data's pages in the background, where all of it fits in memory


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """The optimizer."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1  # on matrices and embeddings; never on norms and biases
    clip: float = 1.0  # largest norm of all gradients together; 0: do not clip
    momentum: float = 0.95  # Muon's


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """The learning rate over the steps."""

    name: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    warmup: int = -1  # steps; -1: a twentieth of the run, at most 2000
    decay: float = 0.2  # wsd: this share of the run, at its end
    final: float = 0.1  # of optim.lr, at the last step


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The loop itself."""

    max_iters: int = 1000  # optimizer steps
    seed: int = 1337
    device: str = "auto"  # auto, cpu, cuda, cuda:1, …
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of activations; weights stay float32
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on CUDA
    compile_mode: str = ""  # torch.compile's mode, such as "max-autotune"
    attention: Literal["auto", "sdpa", "flex", "varlen"] = "auto"
    loss_chunk_tokens: int = 0  # tokens whose logits exist at one time; 0: all where there is room
    activation_checkpointing: bool = False
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"  # with more than one process
    deterministic: bool = False  # deterministic kernels on CUDA: resume is bitwise there too, at some cost
    control_gc: bool = True  # collect Python's garbage between steps, not within them
    stop_after_bad_steps: int = 10  # non-finite losses in a row that end the run
    spike_sigmas: float = 6.0  # a loss this far above its recent mean is reported with its documents; 0: off


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """Evaluation on the validation split."""

    every: int = -1  # steps; 0: never; -1: 250 where the dataset has the split, else never
    batches: int = 20  # of data.batch_size rows per rank
    patience: int = 0  # end after this many evaluations without a better loss; 0: never


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """Saving."""

    every: int = 0  # steps; 0: as often as evaluation, or every 250
    keep: int = 3  # newest checkpoints kept; the best one is kept besides
    background: bool = True  # write while training goes on
    export: str = ""  # also write the best weights here, for torch.load(..., weights_only=True)


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """Text written during training."""

    every: int = -1  # steps; 0: never; -1: as often as checkpoints
    prompt: str = ""  # "": begin as a document begins
    tokens: int = 64
    temperature: float = 0.8
    top_k: int = 50


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is written down, and where."""

    every: int = 10  # steps
    trackers: tuple[str, ...] = ("console", "jsonl", "csv")
    run_dir: str = "runs"
    name: str = ""  # of the run folder; "": dataset and model


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run."""

    preset: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dicts, as TOML and JSON hold them."""
        result: dict[str, Any] = msgspec.to_builtins(self)
        return result
