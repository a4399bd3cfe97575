"""The model repository that Attune writes for Triton: one model, a version for each revision that is loaded.

    <repository>/<reward model>/config.pbtxt
    <repository>/<reward model>/<revision number>/model.py       attune.reward.triton_model
    <repository>/<reward model>/<revision number>/weights/       the revision's folder, copied

A version appears whole or not at all. Which versions Triton serves is what lies there when it is asked to load the
model. Refused: a model of that name that somebody else wrote. Versions left by a server that was killed are removed.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from attune.domain.errors import ConfigurationInvalid

SCRIPT = Path(__file__).with_name("triton_model.py")
MARK = "# Written by Attune, and written anew at each start."
CONFIG = """{mark}
backend: "python"
max_batch_size: {batch_pairs}
input [
  {{ name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] }},
  {{ name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] }}
]
output [ {{ name: "raw_score" data_type: TYPE_FP32 dims: [ 1 ] }} ]
version_policy: {{ all {{ }} }}
parameters: {{ key: "dtype" value: {{ string_value: "{dtype}" }} }}
parameters: {{ key: "threads" value: {{ string_value: "{threads}" }} }}
"""


class TritonRepository:
    """The versions of `model` in the folder that Triton was started with as --model-repository.

    `batch_pairs` is the largest batch that will be sent; `dtype` the trunk's, by its torch name; `threads` those of
    torch on a CPU, 0 for its own choice. ConfigurationInvalid if the folder holds another's model of that name."""

    def __init__(self, folder: Path, model: str, *, batch_pairs: int, dtype: str, threads: int) -> None:
        self._folder = folder
        self._model = folder / model
        self._model.mkdir(parents=True, exist_ok=True)
        config = self._model / "config.pbtxt"
        if any(self._model.iterdir()) and not (config.is_file() and config.read_text().startswith(MARK)):
            raise ConfigurationInvalid(f"{self._model} was not written by Attune; choose another triton.repository")
        for number in self.versions:
            self.remove(number)
        config.write_text(CONFIG.format(mark=MARK, batch_pairs=batch_pairs, dtype=dtype, threads=threads))

    @property
    def versions(self) -> tuple[int, ...]:
        """Numbers of the versions that lie there, in order."""
        return tuple(sorted(int(path.name) for path in self._model.iterdir() if path.name.isdigit()))

    def add(self, number: int, weights: Path) -> None:
        """Copies a revision's folder in as a version; one that is there is replaced."""
        draft = self._folder / f".{self._model.name}-{number}"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(weights, draft / "weights")
        shutil.copyfile(SCRIPT, draft / "model.py")
        self.remove(number)
        draft.rename(self._model / str(number))

    def remove(self, number: int) -> None:
        """Takes a version out, if it is there."""
        shutil.rmtree(self._model / str(number), ignore_errors=True)
