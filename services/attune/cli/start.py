"""The entry of the installed program: runs attune.cli.main, and says what to install where a part of it is missing.

`pip install attune` brings the client alone, which needs neither the terminal's libraries nor torch.
"""

from __future__ import annotations

import sys

EXTRAS = {
    "web": {"jwt"},
    "server": {
        *("aiohttp", "alembic", "click", "fsspec", "grpc_reflection", "kafka", "opentelemetry"),
        *("prometheus_client", "pydantic", "rich", "sqlalchemy", "uvloop"),
    },
    "models": {"huggingface_hub", "jinja2", "numba", "numpy", "safetensors", "tokenizers", "torch", "transformers"},
    "triton": {"tritonclient"},
    "demo": {"matplotlib"},
}
"""What brings which package; see pyproject.toml."""


def main() -> None:
    """The program; exit status 1 and one line if it was installed without what this command needs."""
    try:
        from attune.cli.main import main as program

        program()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        sys.exit(f"attune: this command needs {package}, which comes with: pip install 'attune[{extra}]'")
