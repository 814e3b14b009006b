"""The house stands as designed: one namespace, arrows that point one way, code that follows its protos."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evflex

ROOT = Path(__file__).resolve().parents[1]
PORTIONS = [ROOT / portion / "evflex" for portion in ("engine", "servers", "clients", "proto/gen")]


def test_evflex_is_a_namespace_package() -> None:
    assert getattr(evflex, "__file__", None) is None


@pytest.mark.parametrize("portion", PORTIONS, ids=lambda path: path.parent.name)
def test_no_portion_claims_the_namespace(portion: Path) -> None:
    assert portion.is_dir()
    assert not (portion / "__init__.py").exists()


@pytest.mark.parametrize("portion", PORTIONS, ids=lambda path: path.parent.name)
def test_every_package_says_that_it_is_typed(portion: Path) -> None:
    packages = [path.parent for path in portion.glob("*/__init__.py")]
    assert packages
    assert [package.name for package in packages if not (package / "py.typed").is_file()] == []


@pytest.mark.slow
def test_imports_follow_the_arrows() -> None:
    finished = run([str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], ROOT)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "forbidden", "contract"),
    [
        ("engine/evflex/engine/stray.py", "evflex.server", "The engine"),
        ("engine/evflex/engine/stray.py", "evflex.charging.v1.schedule_pb2", "The engine"),
        ("engine/evflex/engine/stray.py", "google.protobuf", "The engine"),
        ("servers/evflex/server/stray.py", "evflex.cli", "The server"),
        ("clients/evflex/client/stray.py", "evflex.engine", "The client"),
        ("clients/evflex/cli/stray.py", "evflex.engine", "The command line"),
    ],
)
def test_a_stray_import_is_noticed(tmp_path: Path, module: str, forbidden: str, contract: str) -> None:
    copy = copy_of_the_house(tmp_path)
    (copy / module).write_text(f'"""Breaks an arrow."""\n\nimport {forbidden}\n', encoding="utf-8")
    roots = [str(copy / portion) for portion in ("engine", "servers", "clients", "proto/gen")]
    linter = f"import sys; sys.path[:0] = {roots}; from importlinter.cli import lint_imports_command; " + (
        "lint_imports_command(['--no-cache'])"
    )
    finished = run([sys.executable, "-c", linter], copy)
    assert finished.returncode == 1, finished.stdout
    broken = [line for line in finished.stdout.splitlines() if line.endswith("BROKEN")]
    assert len(broken) == 1
    assert broken[0].startswith(contract)


@pytest.mark.slow
def test_generated_code_follows_a_proto_edit(tmp_path: Path) -> None:
    copy = copy_of_the_house(tmp_path)
    generator = [sys.executable, "hatch_build.py"]
    folder = copy / "proto" / "evflex" / "house" / "v1"
    folder.mkdir(parents=True)
    proto = folder / "room.proto"
    text = 'syntax = "proto3";\npackage evflex.house.v1;\nimport "google/rpc/status.proto";\n'

    proto.write_text(text + "message Room { double area_m2 = 1; }\n", encoding="utf-8")
    assert "proto/gen/evflex/house/v1/room_pb2.py" in run(generator, copy).stdout.splitlines()
    stub = copy / "proto/gen/evflex/house/v1/room_pb2.pyi"
    assert "area_m2" in stub.read_text(encoding="utf-8")
    assert run(generator, copy).stdout == ""

    proto.write_text(text + "message Room { double height_m = 1; }\n", encoding="utf-8")
    run(generator, copy)
    assert "height_m" in stub.read_text(encoding="utf-8")

    proto.unlink()
    run(generator, copy)
    assert not (copy / "proto/gen/evflex/house").exists()


def test_generated_code_imports_beside_the_runtime() -> None:
    modules = [
        ".".join(path.relative_to(ROOT / "proto" / "gen").with_suffix("").parts)
        for path in (ROOT / "proto" / "gen" / "evflex").rglob("*_pb2*.py")
    ]
    assert modules
    for module in modules:
        importlib.import_module(module)


@pytest.mark.slow
def test_the_wheel_holds_all_portions_and_nothing_else(tmp_path: Path) -> None:
    copy = copy_of_the_house(tmp_path)
    shutil.rmtree(copy / "proto" / "gen")
    builder = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    finished = run(builder, copy)
    assert finished.returncode == 0, finished.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    target = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, target, "zip")
    assert {path.name.split("-")[0] for path in target.iterdir()} == {"evflex"}
    assert not (target / "evflex" / "__init__.py").exists()
    domains = {path.name for path in (copy / "proto" / "evflex").iterdir()}
    assert {path.name for path in (target / "evflex").iterdir()} == {
        "engine",
        "server",
        "client",
        "cli",
    } | domains
    assert (target / "evflex/server/dispatch/products.json").is_file()
    generated = {path.name for path in (target / "evflex/charging/v1").iterdir()}
    assert {"charging_service_pb2.py", "charging_service_pb2.pyi"} <= generated
    assert {"charging_service_pb2_grpc.py", "charging_service_pb2_grpc.pyi"} <= generated


def copy_of_the_house(folder: Path) -> Path:
    """Copy what a build needs, so that a test may change it."""
    copy = folder / "house"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("engine", "servers", "clients", "proto"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
