"""Tokenizers: training one, rendering prompts with it, and telling two apart.

A tokenizer here is a Hugging Face fast tokenizer with distinct PAD and EOS; the ones trained here are byte-level BPE
with digits split one by one (so that an order number is copied digit by digit) and a chat template. Texts come from the
pretraining stage, prompts from requests and data files; ids go to the models.

Refused: a tokenizer whose PAD is missing or is its EOS (a mask made from PAD would then drop the EOS and the model
would never learn to stop), an empty prompt, chat messages for a tokenizer without template, and chat content that
spells a control token (it would forge a turn). Bare text may spell them: its caller renders for himself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from attune.domain.errors import CheckpointRefused, InvalidInput

PAD, EOS, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"

# A turn is its role's token and its content; only the assistant's turn is closed, by EOS, which is what it samples to
# stop. `generation` marks what the assistant wrote for trainers that ask the template for an assistant mask.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' }}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{%- elif message['role'] in ['user', 'system'] -%}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{%- else -%}{{ raise_exception('roles are system, user and assistant') }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)

GENERIC_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")

ChatMessages = Sequence[Mapping[str, str]]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most `vocabulary` tokens, the five control tokens and the 256 bytes included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, EOS, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
    )


def load_tokenizer(folder_or_hub_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, PAD and EOS checked. CheckpointRefused names the folder."""
    tokenizer = read_tokenizer(folder_or_hub_id)
    check_control_tokens(tokenizer, folder_or_hub_id)
    return tokenizer


def read_tokenizer(folder_or_hub_id: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer as it is, PAD and EOS unchecked: for the stages, which may add a PAD."""
    name = str(folder_or_hub_id)
    try:
        # AutoTokenizer rebuilds the splitting rules of some families (Qwen2) in place of those in tokenizer.json; a
        # folder that declares the generic class means its file as it is.
        is_generic = get_tokenizer_config(name).get("tokenizer_class") in GENERIC_CLASSES
        loader = PreTrainedTokenizerFast if is_generic else AutoTokenizer
        return loader.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointRefused(f"{folder_or_hub_id} has no tokenizer that loads: {_first_line(error)}") from error


def check_control_tokens(tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Raise CheckpointRefused unless PAD and EOS exist and differ."""
    if tokenizer.eos_token_id is None:
        raise CheckpointRefused(f"the tokenizer of {folder} has no EOS token")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise CheckpointRefused(
            f"the tokenizer of {folder} has no PAD token distinct from EOS; run `attune sft` on it, which adds one"
        )


def add_missing_control_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Give a hub tokenizer the PAD and chat template it lacks; returns how many tokens were added to the vocabulary.

    The caller must enlarge the model's embeddings. A tokenizer without EOS gets ours.
    """
    before = len(tokenizer)
    if tokenizer.eos_token_id is None:
        tokenizer.add_special_tokens({"eos_token": EOS})
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD})
    if tokenizer.chat_template is None:
        roles = [token for token in (USER, ASSISTANT, SYSTEM) if token not in tokenizer.get_vocab()]
        tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, *roles]})
        tokenizer.chat_template = CHAT_TEMPLATE.replace(EOS, str(tokenizer.eos_token))
    return len(tokenizer) - before


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str | ChatMessages) -> list[int]:
    """The token ids a completion goes on from.

    Text becomes its tokens (with the BOS of tokenizers that have one, never an EOS); messages of {"role", "content"}
    go through the chat template up to and including the opening of the assistant's turn.
    """
    if isinstance(prompt, str):
        ids = list(tokenizer(prompt)["input_ids"])
        if ids and ids[-1] == tokenizer.eos_token_id and not prompt.endswith(str(tokenizer.eos_token)):
            ids.pop()  # some tokenizers close every text, but this one is to be gone on from
    else:
        ids = _render_chat(tokenizer, prompt, add_generation_prompt=True)
    if not ids:
        raise InvalidInput.field("prompt", "must not be empty")
    return ids


def render_conversation(tokenizer: PreTrainedTokenizerBase, messages: ChatMessages) -> list[int]:
    """The token ids of a whole conversation through the chat template, the assistant's closing EOS included."""
    return _render_chat(tokenizer, messages, add_generation_prompt=False)


def completion_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of a completion's text and EOS: what the policy learns to write and the reward model reads.

    Control tokens spelled in the text are plain characters here, so that only the last token is an EOS.
    """
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*ids, int(tokenizer.eos_token_id)]


def tokenizer_hash(source: str | Path | PreTrainedTokenizerBase) -> str:
    """SHA-256 (hexadecimal) of what decides the ids: vocabulary, merges, splitting, template, PAD and EOS.

    `source` is a tokenizer or the folder of one. Formatting of the files and padding settings do not count.
    """
    tokenizer = source if isinstance(source, PreTrainedTokenizerBase) else read_tokenizer(source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {"vocabulary": tokenizer.get_vocab()}
    rules.pop("padding", None)
    rules.pop("truncation", None)
    identity = [rules, tokenizer.chat_template, tokenizer.pad_token, tokenizer.eos_token]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _render_chat(tokenizer: PreTrainedTokenizerBase, messages: ChatMessages, add_generation_prompt: bool) -> list[int]:
    if not messages:
        raise InvalidInput.field("prompt", "needs at least one message")
    if tokenizer.chat_template is None:
        raise InvalidInput.field("prompt", "this model's tokenizer has no chat template; send text")
    for message in messages:
        for token in tokenizer.all_special_tokens:
            if token in message["content"]:
                raise InvalidInput.field("prompt", f"content must not spell the control token {token}")
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages], add_generation_prompt=add_generation_prompt, tokenize=False
        )
    except TemplateError as error:
        raise InvalidInput.field("prompt", f"the model's chat template refuses it: {_first_line(error)}") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
