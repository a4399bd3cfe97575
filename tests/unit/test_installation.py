"""What is installed beside vLLM: all that both need, and what vLLM decides left to it; nothing is installed here."""

from __future__ import annotations

from installation import attune_needs, vllm_needs

VLLM = """numpy
transformers<5.20.0,>=5.16.1
torch==2.13.0+cpu; platform_machine == "x86_64"
torchaudio; platform_machine != "s390x"
torchcodec>=0.14
opentelemetry-sdk>=1.26.0; extra == "otel"
fastapi[standard]<0.137.0,>=0.133.0
"""


def test_of_vllms_needs_extras_and_sound_are_left_out_and_torch_is_any_build() -> None:
    assert vllm_needs(VLLM) == [
        "numpy",
        "transformers<5.20.0,>=5.16.1",
        'torch==2.13.0; platform_machine == "x86_64"',
        "fastapi[standard]<0.137.0,>=0.133.0",
    ]


def test_attunes_needs_are_those_of_a_model_server_without_what_vllm_decides() -> None:
    names = {line.split(">")[0].split("[")[0] for line in attune_needs()}
    assert {"grpcio", "protobuf", "pydantic", "sqlalchemy", "kafka-python", "safetensors", "pyjwt"} <= names
    assert not {"torch", "transformers", "huggingface-hub", "attune", "matplotlib", "pytest"} & names
