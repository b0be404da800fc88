"""Function code and layers as assets, built at synth without Docker.

Third-party wheels come from `layers/dependencies/lambda.lock` (hash-pinned) for the platform where the
functions will run: Lambda's, or the local interpreter for the embedded AWS. A layer's hash covers its
sources, the target and this file, so nothing is built twice. Data that no function reads is trimmed: it is
most of the weight of botocore, and a cold start pays for weight.
"""

import functools
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

from infra.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "layers/dependencies/lambda.lock"
LIBRARY = ROOT / "layers/empath"

# What Python leaves beside the sources is no part of an asset; layers get bytecode of their own.
BYTECODE = ["**/__pycache__", "**/*.pyc"]
# Rooms of the library that no function imports.
NOT_IN_FUNCTIONS = ("control", "local", "testing", "ingress")
# Service descriptions that the library (or the X-Ray SDK) loads; botocore carries over 400.
BOTOCORE_SERVICES = frozenset({"dynamodb", "events", "s3", "secretsmanager", "sesv2", "sqs", "sts", "xray"})


def function_code(name: str) -> lambda_.Code:
    """The door of one function: its handler file and nothing else."""
    return lambda_.Code.from_asset(str(ROOT / "functions" / name), exclude=BYTECODE)


def library_code(settings: Settings) -> lambda_.Code:
    """The library as a layer, without the rooms that functions never enter."""
    target = Target.of(settings)
    hashed = target.fingerprint(*library_files())
    return _built(LIBRARY, hashed, lambda output: build_library(target, output))


def dependencies_code(settings: Settings) -> lambda_.Code:
    """Third-party packages as a layer for the place where the functions will run."""
    target = Target.of(settings)
    return _built(LOCK.parent, target.fingerprint(LOCK), lambda output: build_dependencies(target, output))


def library_files() -> list[Path]:
    """The files of the library that functions may use."""
    package = LIBRARY / "python/empath"
    return sorted(
        path
        for path in package.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and path.relative_to(package).parts[0] not in NOT_IN_FUNCTIONS
    )


class Target:
    """A platform and interpreter for which wheels are chosen."""

    def __init__(self, python: str, platform: str | None) -> None:
        self.python = python
        self.platform = platform

    @classmethod
    def of(cls, settings: Settings) -> "Target":
        if settings.bundling == "local":
            return cls(f"{sys.version_info.major}.{sys.version_info.minor}", None)
        machine = {"arm64": "aarch64", "x86_64": "x86_64"}[settings.architecture]
        # Lambda's Python 3.12 and later run on glibc 2.34; some wheels exist for manylinux_2_28 only.
        return cls(settings.python_version, f"{machine}-manylinux_2_28")

    def compiler(self) -> str | None:
        """An interpreter that can write bytecode for the target; None where there is none."""
        if self.python == _version_of(sys.executable):
            return sys.executable
        for look in (lambda version: shutil.which(f"python{version}"), _python_of_uv):
            found = look(self.python)
            if found and _version_of(found) == self.python:
                return found
        return None

    def fingerprint(self, *files: Path) -> str:
        """A hash of what decides a layer's content: its files, this module and the target."""
        digest = hashlib.sha256(f"{self.python} {self.platform or sys.platform}".encode())
        digest.update(f"{bool(self.compiler())}".encode())
        for path in (Path(__file__), *files):
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()


def build_library(target: Target, output: Path) -> None:
    """Copy the library into `output`/python, with bytecode for the target."""
    for path in library_files():
        copy = output / path.relative_to(LIBRARY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    _compile(target, output)


def build_dependencies(target: Target, output: Path) -> None:
    """Install the locked wheels into `output`/python and trim them.

    Raises BundlingError with uv's own words when a wheel is missing for the target or a hash differs.
    """
    packages = output / "python"
    command = [
        _uv(), "pip", "install", "--quiet", "--target", str(packages),
        "--only-binary", ":all:", "--require-hashes", "--no-deps", "--link-mode", "copy",
        "--python-version", target.python,
        "--requirement", str(LOCK),
    ]  # fmt: skip
    if target.platform:
        command += ["--python-platform", target.platform]
    else:
        command += ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BundlingError(f"the layer of dependencies could not be built:\n{done.stderr.strip()}")
    trim(packages)
    _compile(target, output)


class BundlingError(RuntimeError):
    """Wheels could not be fetched or do not exist for the target."""


def trim(packages: Path) -> None:
    """Remove what no function reads: tests, scripts, metadata, descriptions of services never called."""
    for service in (packages / "botocore/data").iterdir():
        if service.is_dir() and service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
    for pattern in ("**/__pycache__", "*.dist-info", "bin", "**/tests"):
        for path in sorted(packages.glob(pattern)):
            shutil.rmtree(path, ignore_errors=True)
    for pattern in ("**/examples-1.json*", "**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.c", "**/*.h"):
        for path in packages.glob(pattern):
            path.unlink()
    _slim(packages / "botocore/data")


def _slim(data: Path) -> None:
    """Rewrite what botocore reads to open a client: endpoints of services in use, operations without prose.

    Uncompressed, which takes a cold start less CPU; the archive of the layer compresses it anyway.
    """
    endpoints = json.loads((data / "endpoints.json").read_bytes())
    for partition in endpoints["partitions"]:
        known = partition["services"]
        # SES goes by an older name here.
        partition["services"] = {
            name: known[name] for name in (*sorted(BOTOCORE_SERVICES), "email") if name in known
        }
    _write_json(data / "endpoints.json", endpoints)
    for path in sorted(data.glob("*/*/*.json.gz")):
        _write_json(path.with_suffix(""), _without_prose(json.loads(gzip.decompress(path.read_bytes()))))
        path.unlink()


def _without_prose(described: Any) -> Any:
    """With `documentation` emptied: botocore insists on some. A member of that name is no text and stays."""
    if isinstance(described, dict):
        return {
            name: "" if name == "documentation" and isinstance(value, str) else _without_prose(value)
            for name, value in described.items()
        }
    return [_without_prose(item) for item in described] if isinstance(described, list) else described


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))


def _compile(target: Target, output: Path) -> None:
    # A layer is read-only in Lambda, so without bytecode every cold start compiles every module anew.
    # Unchecked hashes, because archives do not keep the time stamps that Python compares by default.
    interpreter = target.compiler()
    if interpreter is None:
        return
    command = [interpreter, "-m", "compileall", "-qq", "-s", str(output), "-p", "/opt"]
    command += ["--invalidation-mode", "unchecked-hash", str(output)]
    subprocess.run(command, check=False)


@functools.cache
def _version_of(interpreter: str) -> str | None:
    # By asking it: version managers put commands on the path that only say which versions there could be.
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def _python_of_uv(version: str) -> str | None:
    # Those that uv has installed need not be on the path.
    command = [_uv(), "python", "find", "--no-python-downloads", "--no-project", version]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    return str(beside) if beside.exists() else "uv"


def _built(source: Path, hashed: str, build: Callable[[Path], None]) -> lambda_.Code:
    return lambda_.Code.from_asset(
        str(source),
        exclude=BYTECODE,
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=hashed,
        bundling=cdk.BundlingOptions(
            # Never used: the local bundling always succeeds or raises.
            image=cdk.DockerImage.from_registry("scratch"),
            local=_LocalBundling(build),
        ),
    )


@jsii.implements(cdk.ILocalBundling)
class _LocalBundling:
    def __init__(self, build: Callable[[Path], None]) -> None:
        self._build = build

    def try_bundle(self, output_dir: str, options: cdk.BundlingOptions | None = None, **_: object) -> bool:
        self._build(Path(output_dir))
        return True
