"""Lints the protos and generates services/attune/api and the OpenAPI document of the HTTP door from them.

`python protos/generate.py` writes; `--check` lints, compares with what is committed and exits 1 on drift;
`--breaking REF` compares the contracts with those of a git revision.
google.rpc comes from googleapis-common-protos, so nothing is fetched.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from openapi import document

PROTOS = Path(__file__).resolve().parent
API = PROTOS.parent / "services" / "attune" / "api"
OPENAPI = PROTOS.parent / "services" / "attune" / "feedback" / "ingest" / "web" / "openapi.json"
PACKAGE_DOC = '"""Generated from protos/ by protos/generate.py; never edited."""\n'


def google_rpc() -> Path:
    """The folder on the import path that holds google/rpc/*.proto."""
    spec = find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("googleapis-common-protos is missing: run make install")
    return Path(next(iter(spec.submodule_search_locations))).parent.parent


def sources() -> list[Path]:
    return sorted(PROTOS.glob("attune/**/*.proto"))


def buf(arguments: list[str], workspace: Path) -> None:
    """Runs buf in a workspace that also holds google.rpc, which its lint leaves out."""
    program = Path(sys.executable).with_name("buf")
    if subprocess.run([str(program), *arguments], cwd=workspace, check=False).returncode:
        raise SystemExit(f"buf {arguments[0]} found faults (above)")


def make_workspace(protos: Path, workspace: Path) -> Path:
    shutil.copytree(protos, workspace, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (workspace / "google/rpc").mkdir(parents=True)
    shutil.copy(google_rpc() / "google/rpc/status.proto", workspace / "google/rpc/status.proto")
    return workspace


def lint() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(PROTOS, Path(folder))
        buf(["lint", "--path", "attune"], workspace)
        buf(["format", "--diff", "--exit-code", "--path", "attune"], workspace)


def breaking(ref: str) -> None:
    """Refuses contracts that break those of a git revision (rule set FILE)."""
    archive = subprocess.run(["git", "archive", ref, "protos"], cwd=PROTOS.parent, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
            tar.extractall(old, filter="data")
        was = make_workspace(old / "protos", Path(folder) / "was")
        now = make_workspace(PROTOS, Path(folder) / "now")
        buf(["breaking", "--against", str(was)], now)


def compile_protos(*outputs: str) -> None:
    """Runs protoc over every proto."""
    well_known = Path(find_spec("grpc_tools").submodule_search_locations[0]) / "_proto"
    includes = [f"-I{PROTOS}", f"-I{google_rpc()}", f"-I{well_known}"]
    if protoc.main(["protoc", *includes, *outputs, *map(str, sources())]):
        raise SystemExit("protoc failed (above)")


def openapi(folder: Path) -> str:
    """The text of the OpenAPI document; `folder` is for what protoc writes on the way."""
    described = folder / "descriptors"
    compile_protos(f"--descriptor_set_out={described}", "--include_source_info", "--include_imports")
    found = document(FileDescriptorSet.FromString(described.read_bytes()))
    return json.dumps(found, indent=2) + "\n"


def generate(target: Path) -> None:
    """Writes the Python of every proto below `target`/attune/api."""
    target.mkdir(parents=True, exist_ok=True)
    compile_protos(*(f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")))
    for folder in [target / "attune/api", *(f for f in (target / "attune/api").glob("**/*") if f.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_DOC)
    keep_apart(target / "attune/api/inference/v2/inference_pb2.py")
    for stub in target.glob("attune/api/**/*_pb2_grpc.py"):
        if "class " not in stub.read_text():
            stub.unlink()


def keep_apart(module: Path) -> None:
    """Gives the messages of a module a descriptor pool of their own: clients of the Open Inference Protocol register
    the same names, and one process may hold such a client beside our server."""
    text = module.read_text()
    assert text.count("_descriptor_pool.Default()") == 1
    module.write_text(text.replace("_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"))


def drift(fresh: Path) -> list[str]:
    names = {
        str(p.relative_to(root)) for root in (fresh, API) for p in root.glob("**/*.py*") if "__pycache__" not in p.parts
    }
    return sorted(
        n for n in names if not ((fresh / n).exists() and (API / n).exists() and filecmp.cmp(fresh / n, API / n, False))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed code differs")
    parser.add_argument("--breaking", metavar="REF", help="compare with the contracts of a git revision")
    options = parser.parse_args()
    lint()
    if options.breaking:
        breaking(options.breaking)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, described = Path(folder) / "attune/api", openapi(Path(folder))
        if options.check:
            found = drift(fresh) + [OPENAPI.name] * (OPENAPI.read_text() != described)
            if found:
                raise SystemExit("generated code differs from the protos; run `make protos`: " + ", ".join(found))
            print(f"{len(sources())} protos: lint clean, generated code up to date")
            return
        shutil.rmtree(API, ignore_errors=True)
        shutil.copytree(fresh, API)
        OPENAPI.write_text(described)
    print(f"generated {API.relative_to(PROTOS.parent)} and {OPENAPI.name} from {len(sources())} protos")


if __name__ == "__main__":
    main()
