"""Build hook that generates the Python code of the public contract from `proto/evflex/**/*.proto`.

hatchling calls it for every wheel, editable installs included. `python hatch_build.py` does the same by
hand after a proto edit (`make proto`). Files whose content did not change are left alone, and files whose
proto has gone are removed, so that running it again is always safe.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
else:
    try:
        from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    except ModuleNotFoundError:  # run by hand, where hatchling is not needed
        BuildHookInterface = object

SOURCE_FOLDER = Path("proto")
TARGET_FOLDER = Path("proto/gen")


class GenerateContractCode(BuildHookInterface):  # type: ignore[type-arg, unused-ignore]
    """Generates the contract's code before the files of a wheel are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate the code below the project's root."""
        generate(Path(self.root))


def generate(root: Path) -> list[Path]:
    """Bring `proto/gen` in line with `proto/evflex`.

    Args:
        root: Folder that holds `pyproject.toml`.

    Returns:
        The files that were written, changed or removed, relative to the target folder.

    Raises:
        RuntimeError: If protoc refuses a proto; its messages stand above on standard error.
    """
    source = root / SOURCE_FOLDER
    protos = sorted(path.relative_to(source) for path in (source / "evflex").rglob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="evflex-proto-") as scratch:
        if protos:
            _run_protoc(source, protos, Path(scratch))
            _complete_packages(Path(scratch) / "evflex")
        return _mirror(Path(scratch), root / TARGET_FOLDER)


def _run_protoc(source: Path, protos: list[Path], target: Path) -> None:
    """Run protoc in a process of its own, because it ends the process that it fails in."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={source}"]
    command += [f"--proto_path={folder}" for folder in _include_folders()]
    command += [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    command += [f"--mypy_grpc_out=quiet:{target}"]
    # the mypy_grpc plugin is a script beside the interpreter, which need not be on PATH
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": scripts}
    # not sys.stdout: hatchling's own standard output belongs to the build front end
    finished = subprocess.run([*command, *map(str, protos)], env=environment, stdout=sys.stderr, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"protoc failed with exit code {finished.returncode}; its messages stand above")


def _include_folders() -> list[Path]:
    """Folders that hold `google/protobuf` and `google/rpc`."""
    tools = importlib.util.find_spec("grpc_tools")
    common = importlib.util.find_spec("google.rpc")
    if tools is None or common is None or not tools.submodule_search_locations:
        raise RuntimeError("generating code needs grpcio-tools and googleapis-common-protos")
    include_folders = [Path(tools.submodule_search_locations[0]) / "_proto"]
    include_folders += [Path(place).parents[1] for place in common.submodule_search_locations or ()]
    return include_folders


def _complete_packages(namespace: Path) -> None:
    """Make each domain a regular, typed package; `evflex` itself stays a namespace without `__init__.py`."""
    for domain in (entry for entry in namespace.iterdir() if entry.is_dir()):
        (domain / "py.typed").touch()
        for folder in (domain, *(entry for entry in domain.rglob("*") if entry.is_dir())):
            name = ".".join(folder.relative_to(namespace.parent).parts)
            text = f'"""Code generated from the protos of `{name}`; do not edit."""\n'
            (folder / "__init__.py").write_text(text, encoding="utf-8")


def _mirror(fresh: Path, target: Path) -> list[Path]:
    """Make the generated part of `target` equal to `fresh`, touching only what differs."""
    wanted = {path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()}
    present = {
        path.relative_to(target)
        for path in (target / "evflex").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    changed = sorted(present - wanted)
    for path in changed:
        (target / path).unlink()
    for path in sorted(wanted):
        content = (fresh / path).read_bytes()
        destination = target / path
        if path in present and destination.read_bytes() == content:
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        # written beside and renamed, so that a process which imports meanwhile never sees half a file
        partial = destination.with_name(f".{destination.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(destination)
        changed.append(path)
    _remove_empty_folders(target / "evflex")
    return changed


def _remove_empty_folders(top: Path) -> None:
    """Remove folders below `top` in which nothing but bytecode is left."""
    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        if folder.name != "__pycache__" and not any(p for p in folder.iterdir() if p.name != "__pycache__"):
            shutil.rmtree(folder)


if __name__ == "__main__":
    for changed_path in generate(Path(__file__).resolve().parent):
        sys.stdout.write(f"{TARGET_FOLDER / changed_path}\n")
