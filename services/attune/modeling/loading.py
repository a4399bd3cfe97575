"""Policies: making a small one, loading any Hugging Face causal-LM folder, and saving it again.

A model folder holds config.json, model.safetensors (or shards with their index), tokenizer.json and
tokenizer_config.json. Folders come from the registry, from disk or from the Hugging Face hub; models go to the engine,
the learner and the stages. Loaded models are in eval mode with every dropout at zero, so that old and new
log-probabilities of one token differ by the weights alone, in train() too.

Refused, whole, with a CheckpointRefused and before anything else sees the weights: pickled weights, truncated files,
missing, unexpected or wrongly shaped tensors, numbers that are not finite, no tokenizer, a vocabulary larger than the
embedding, another tokenizer than expected, and code from the hub.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import transformers
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

from attune.domain.errors import (
    CheckpointMisshapen,
    CheckpointNotFinite,
    CheckpointPickled,
    CheckpointRefused,
    CheckpointTruncated,
    ConfigurationInvalid,
    TokenizerDiffers,
)
from attune.modeling.tokenizer import (
    add_missing_control_tokens,
    check_control_tokens,
    read_tokenizer,
    tokenizer_hash,
)

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_TIMEOUT_S = 10.0
_NOBODY_ANSWERS = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
"""What the hub's client raises when it reaches nobody: the errors of its HTTP library, and OSError."""
UNKNOWN_CONTEXT = 2048
"""Context in tokens when a configuration does not say (models without positions)."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready for use: eval mode, no dropout; `max_context` is prompt and completion together, in tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_context: int


@dataclass(frozen=True)
class PolicyShape:
    """The architecture of a new model; about 12 x layers x width² parameters, and vocabulary x width of embedding."""

    family: Literal["llama", "gpt2", "qwen2"] = "llama"
    layers: int = 4
    width: int = 192
    heads: int = 4
    mlp_width: int | None = None
    """Inner width of the feed-forward part; 8/3 x width for gated ones and 4 x width for GPT-2 when not given."""
    context: int = 256


def device_named(name: str) -> str:
    """The device of a setting: "auto" is the GPU where there is one. ConfigurationInvalid if this machine lacks it."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without it
        raise ConfigurationInvalid(f"there is no device {name} here: {str(error).splitlines()[0]}") from error
    return name


def new_policy(shape: PolicyShape, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> PreTrainedModel:
    """A freshly initialised causal LM in float32 with tied embeddings; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(_new_config(shape, tokenizer)).eval()


def load_policy(
    folder_or_hub_id: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expected_tokenizer_hash: str | None = None,
) -> LoadedPolicy:
    """Load and check a policy; CheckpointRefused says what is wrong with which folder."""
    _check_there(folder_or_hub_id)
    tokenizer = read_tokenizer(folder_or_hub_id)
    check_control_tokens(tokenizer, folder_or_hub_id)
    check_tokenizer_is(tokenizer, expected_tokenizer_hash, folder_or_hub_id)
    model = load_weights(AutoModelForCausalLM, folder_or_hub_id, dtype)
    check_vocabulary_fits(model, tokenizer, folder_or_hub_id)
    nn.Module.to(model, device)
    return LoadedPolicy(model, tokenizer, max_context(model.config))


def load_for_training(folder_or_hub_id: str | Path, seed: int = 0) -> LoadedPolicy:
    """Load a base model in float32 for a stage: like `load_policy`, but a missing PAD or chat template is added.

    New rows of the embedding are drawn under `seed`, so that a resumed run starts from the same weights.
    """
    _check_there(folder_or_hub_id)
    tokenizer = read_tokenizer(folder_or_hub_id)
    model = load_weights(AutoModelForCausalLM, folder_or_hub_id, torch.float32)
    if add_missing_control_tokens(tokenizer) and len(tokenizer) > embedding_rows(model):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    check_vocabulary_fits(model, tokenizer, folder_or_hub_id)
    model.config.pad_token_id, model.config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    return LoadedPolicy(model, tokenizer, max_context(model.config))


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write a model folder, safetensors only; tied weights are stored once. The folder is made if it is not there.

    Not atomic: callers write beside the final place and rename.
    """
    with _quiet():
        model.save_pretrained(str(folder))
        # The template inside tokenizer_config.json: one file fewer that a copy can lose.
        tokenizer.save_pretrained(str(folder), save_jinja_files=False)


def max_context(config: PretrainedConfig) -> int:
    """Positions the model was built for, in tokens."""
    return int(getattr(config, "max_position_embeddings", None) or UNKNOWN_CONTEXT)


def load_weights(auto_class: Any, folder_or_hub_id: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    """A model of the folder through `auto_class`, every tensor accounted for and finite; eval mode, no dropout."""
    folder = _existing(folder_or_hub_id)
    _refuse_pickle(folder)
    _refuse_truncated(folder)
    source = str(folder_or_hub_id)
    try:
        with _quiet():
            config = without_dropout(AutoConfig.from_pretrained(source, trust_remote_code=False))
            model, report = auto_class.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the report names them; they are refused below
                trust_remote_code=False,
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise CheckpointRefused(f"{source} does not load: {str(error).splitlines()[0]}") from error
    _check_report(report, source)
    check_finite(dict(model.named_parameters()) | dict(model.named_buffers()), source)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


def check_tokenizer_is(tokenizer: PreTrainedTokenizerBase, expected_hash: str | None, folder: str | Path) -> None:
    """Raise TokenizerDiffers unless the tokenizer has the expected hash (None expects nothing)."""
    if expected_hash is not None and (found := tokenizer_hash(tokenizer)) != expected_hash:
        raise TokenizerDiffers(
            f"{folder} has another tokenizer ({found[:12]}) than the one in use ({expected_hash[:12]})"
        )


def embedding_rows(model: PreTrainedModel) -> int:
    """How many token ids the model knows; at least the tokenizer's, often padded beyond."""
    return cast(nn.Embedding, model.get_input_embeddings()).num_embeddings


def check_vocabulary_fits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Raise CheckpointRefused if the tokenizer has ids beyond the embedding."""
    rows = embedding_rows(model)
    if len(tokenizer) > rows:
        raise CheckpointRefused(f"{folder}: the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows")


def check_finite(tensors: dict[str, torch.Tensor], folder: str | Path) -> None:
    """Raise CheckpointNotFinite naming the first tensor that holds an infinity or NaN."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointNotFinite(f"{folder}: {name} holds numbers that are not finite")


def without_dropout(config: PretrainedConfig) -> PretrainedConfig:
    """Set every dropout of a configuration to zero, whatever its family calls it; returns the same object."""
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
    return config


def _new_config(shape: PolicyShape, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    control = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "tie_word_embeddings": True,
        # The usual 0.02 is made for widths of thousands; a narrow model that starts there learns to copy far later.
        "initializer_range": shape.width**-0.5,
    }
    if shape.family == "gpt2":
        config: PretrainedConfig = GPT2Config(
            n_layer=shape.layers,
            n_embd=shape.width,
            n_head=shape.heads,
            n_inner=shape.mlp_width,
            n_positions=shape.context,
            **control,
        )
    else:
        config = {"llama": LlamaConfig, "qwen2": Qwen2Config}[shape.family](
            num_hidden_layers=shape.layers,
            hidden_size=shape.width,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            intermediate_size=shape.mlp_width or (shape.width * 8 // 3 + 15) // 16 * 16,
            max_position_embeddings=shape.context,
            **control,
        )
    return without_dropout(config)


def _check_there(folder_or_hub_id: str | Path) -> None:
    """CheckpointRefused for a name that is neither a folder nor a model of the hub, at once and in one line.

    The hub's client would otherwise try many times before it says that it cannot find what was a mistyped folder.
    """
    name = str(folder_or_hub_id)
    if _existing(folder_or_hub_id) or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointRefused(f"there is no folder {name}, and the hub has no model of that name") from error
    except HfHubHTTPError:
        return  # such as a gated model: loading it says what it wants
    except _NOBODY_ANSWERS as error:
        raise CheckpointRefused(f"there is no folder {name}, and the hub cannot be asked for it: {error}") from error


def _existing(folder_or_hub_id: str | Path) -> Path | None:
    """The local folder, or None for a hub id; what only looks like a path is refused without asking the hub."""
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    name = str(folder_or_hub_id)
    if isinstance(folder_or_hub_id, Path) or folder.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise CheckpointRefused(f"there is no folder {folder}")
    return None


def _refuse_pickle(folder: Path | None) -> None:
    if folder is None or any(folder.glob("*.safetensors")):
        return  # from the hub and beside safetensors, use_safetensors=True keeps pickles from being read
    pickles = [path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES]
    if pickles:
        raise CheckpointPickled(
            f"{folder} has only {', '.join(sorted(pickles))}, and pickled weights are never loaded; save the model as "
            "safetensors"
        )
    raise CheckpointRefused(f"{folder} has no weights; save the model as safetensors")


def _refuse_truncated(folder: Path | None) -> None:
    """Open every safetensors header, which holds the file's length, before torch maps anything."""
    for path in sorted(folder.glob("*.safetensors")) if folder else ():
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointTruncated(f"{path} is truncated or no safetensors file: {error}") from error
    if folder and not (folder / "config.json").is_file():
        raise CheckpointRefused(f"{folder} has no config.json")
    index = folder / "model.safetensors.index.json" if folder else None
    if folder and index and index.is_file():
        shards = set(json.loads(index.read_text())["weight_map"].values())
        if absent := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise CheckpointRefused(f"{folder} lacks {', '.join(absent)}")


def _check_report(report: dict[str, Any], source: str) -> None:
    for what, names in (
        ("lacks", report["missing_keys"]),
        ("has unexpected", report["unexpected_keys"]),
        ("has wrongly shaped", {str(key[0] if isinstance(key, tuple) else key) for key in report["mismatched_keys"]}),
    ):
        if names:
            shown = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise CheckpointMisshapen(f"{source} {what} tensors: {shown}")


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and load tables of transformers: what is wrong with a folder is raised, not printed."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
