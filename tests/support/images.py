"""The images of the Dockerfile, built and run on this machine without a daemon, a registry or a hub.

debootstrap makes the root that the Dockerfile starts from, buildah builds in a chroot, podman runs the containers with
runc; all are Debian's, and need root. Run as a program, this installs them where they are missing and can be had, or
with the word `sizes` prints what was built: `python tests/support/images.py`.

A container here is locked in as in a restricted namespace: the image's own user, a read-only root, no capability, no
way to more; writable are a tmpfs on /tmp and one volume. In the place of its shells lies an empty file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {"debootstrap": "debootstrap", "buildah": "buildah", "podman": "podman", "runc": "runc"}
MISSING = "images need root and, on Debian: apt-get install debootstrap buildah podman runc"
REQUIRED = "ATTUNE_REQUIRE_PARTS"
RELEASE, MIRROR = "bookworm", "http://deb.debian.org/debian"
BASE = f"localhost/attune-base:{RELEASE}"
TARGETS = ("slim", "full")
USER = 10001
SHELLS = ("/usr/bin/dash", "/usr/bin/bash")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
STOP_S = 60.0
# The limits are those of a process that may not raise its own.
_RUN = (
    *("podman", "--runtime", "runc", "run", "--pull", "never", "--read-only", "--read-only-tmpfs=false"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
)


def can_be_had() -> bool:
    return os.geteuid() == 0 and all(shutil.which(program) for program in PROGRAMS)


def build(target: str, *arguments: str) -> str:
    """Builds a target of the Dockerfile; the name of its image. What did not change since the last time is kept."""
    _make_base()
    name = _name(target)
    with tempfile.TemporaryDirectory(prefix="attune-image-") as folder:
        command = ["buildah", "bud", "--isolation", "chroot", "--layers", "--target", target, "--tag", name]
        command += ["--pull-never", "--build-arg", f"BASE={BASE}", *_pip(Path(folder)), *labels(), *arguments]
        _run(*command, str(ROOT))
    return name


def labels() -> list[str]:
    """What the image is made from, as build arguments: of one commit always the same."""
    commit, time_s, when = _run("git", "-C", str(ROOT), "log", "-1", "--format=%H%n%ct%n%cI").split()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return [
        *("--build-arg", f"VERSION={version}"),
        *("--build-arg", f"REVISION={commit}"),
        *("--build-arg", f"CREATED={when}"),
        *("--timestamp", time_s),
    ]


def torch_index(environ: Mapping[str, str]) -> list[str]:
    """The build argument for a torch without CUDA, where TORCH_INDEX names an index of such."""
    index = environ.get("TORCH_INDEX")
    return ["--build-arg", f"TORCH_INDEX={index}"] if index else []


def run_python(image: str, program: str) -> str:
    """What a Python program prints in a container of the image. RuntimeError, with what it said, if it fails."""
    return _run(*_RUN, "--rm", "--entrypoint", "/opt/attune/bin/python", image, "-c", program)


def config(image: str) -> dict[str, object]:
    """The image's configuration: User, Entrypoint, Labels and so on."""
    return json.loads(_run("podman", "image", "inspect", image))[0]["Config"]


def compressed_bytes(image: str) -> int:
    """What a registry would hold, and a node fetch: the compressed layers together."""
    with tempfile.TemporaryDirectory(prefix="attune-image-") as folder:
        _run("buildah", "push", "--compression-format", "gzip", image, f"oci:{folder}/oci:image")
        blobs = Path(folder, "oci", "blobs", "sha256")
        index = json.loads(Path(folder, "oci", "index.json").read_text())
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        return sum(layer["size"] for layer in json.loads((blobs / digest).read_text())["layers"])


class Container:
    """A running container of an image on the machine's own network; `data` is the volume at its working folder."""

    def __init__(self, image: str, command: Sequence[str], data: Path, environment: Mapping[str, str]) -> None:
        self._name = f"attune-test-{uuid.uuid4().hex}"
        os.chown(data, USER, USER)
        no_shell = data.parent / "no-shell"
        no_shell.touch(mode=0o644)
        _run(
            *(*_RUN, "--detach", "--name", self._name, "--network", "host"),
            *("--tmpfs", "/tmp", "--volume", f"{data}:/var/lib/attune"),
            *(part for shell in SHELLS for part in ("--volume", f"{no_shell}:{shell}:ro")),
            *(part for name, value in environment.items() for part in ("--env", f"{name}={value}")),
            *(image, *command),
        )
        self.pid = int(_run("podman", "inspect", "--format", "{{.State.Pid}}", self._name))

    def status(self) -> dict[str, str]:
        """What the kernel says of the process: Uid, CapEff, NoNewPrivs and so on."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def root_options(self) -> list[str]:
        """How its root is mounted."""
        mounts = [line.split() for line in Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()]
        return next(fields[5].split(",") for fields in mounts if fields[4] == "/")

    def logs(self) -> str:
        done = subprocess.run(["podman", "logs", self._name], capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def terminate(self) -> None:
        _run("podman", "kill", "--signal", "TERM", self._name)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return int(_run("podman", "wait", self._name, timeout_s=STOP_S))

    def remove(self) -> None:
        _run("podman", "rm", "--force", "--time", "0", self._name)


@contextmanager
def running(image: str, command: Sequence[str], data: Path, environment: Mapping[str, str]) -> Iterator[Container]:
    """A container that goes with the block; what it logged is printed, for a test that fails."""
    container = Container(image, command, data, environment)
    try:
        yield container
    finally:
        print(container.logs())
        container.remove()


def require() -> None:
    """Skips the test where images cannot be built; fails it where every part must be there."""
    if can_be_had():
        return
    if os.environ.get(REQUIRED):
        pytest.fail(MISSING)
    pytest.skip(MISSING)


def _name(target: str) -> str:
    return f"localhost/attune-{target}"


def _exists(image: str) -> bool:
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def _make_base() -> None:
    """The root under the name that the Dockerfile is told, once a machine."""
    if _exists(BASE):
        return
    with tempfile.TemporaryDirectory(prefix="attune-base-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "root.tar")
        _run("debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(root), MIRROR)
        shutil.rmtree(root / "var/cache/apt/archives")
        shutil.rmtree(root / "var/lib/apt/lists")
        _run("tar", "--create", "--file", str(archive), "--directory", str(root), ".")
        _run("podman", "import", str(archive), BASE)


def _pip(folder: Path) -> list[str]:
    """Lets pip in the build trust whom this machine trusts, and find packages where this machine does."""
    settings, arguments = ["[global]", f"cert = {CERTIFICATES}"], []
    if links := os.environ.get("PIP_FIND_LINKS"):
        settings.append(f"find-links = {links}")
        arguments += ["--volume", f"{links}:{links}:ro"]
    (folder / "pip.conf").write_text("\n".join(settings) + "\n")
    arguments += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    return ["--secret", f"id=pip,src={folder / 'pip.conf'}", *arguments]


def _run(*command: str, timeout_s: float | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def install() -> int:
    """Installs the programs through apt-get where they are missing and this user may; the exit status."""
    if not can_be_had() and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PROGRAMS.values()]):
            subprocess.run(["apt-get", "--quiet", *command], check=False, env=environment, stdout=subprocess.DEVNULL)
    if not can_be_had():
        print(f"{MISSING}. Tests that need them are skipped.", file=sys.stderr)
        return 1 if os.environ.get(REQUIRED) else 0
    return 0


def sizes() -> int:
    """Prints the compressed size of every image that is there, as one line of JSON; the exit status."""
    there = [target for target in TARGETS if _exists(_name(target))] if can_be_had() else []
    megabytes = {f"{target}_mb": round(compressed_bytes(_name(target)) / 1e6, 1) for target in there}
    print(json.dumps({"name": "image", **megabytes}))
    return 0


if __name__ == "__main__":
    sys.exit(sizes() if sys.argv[1:] == ["sizes"] else install())
