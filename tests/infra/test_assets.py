"""What is uploaded: every function finds what it imports, and carries nothing else."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest

from infra import packaging
from infra.settings import FUNCTIONS, Settings
from tests.infra.conftest import ROOT, Synthesised
from tests.infra.imports import missing_in, pins

LIBRARY = ROOT / "layers/empath/python/empath"


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "s3": ("get_object", {"Bucket": "spool", "Key": "k"}),
    "sqs": ("send_message", {"QueueUrl": "http://127.0.0.1:1/1/q", "MessageBody": "b"}),
    "dynamodb": ("get_item", {"TableName": "t", "Key": {"pk": {"S": "k"}}}),
    "secretsmanager": ("get_secret_value", {"SecretId": "s"}),
    "sesv2": ("send_email", {"Content": {"Raw": {"Data": b"m"}}}),
    "events": ("put_events", {"Entries": []}),
    "sts": ("get_caller_identity", {}),
}
"""One call to each service, which nobody answers: it needs most of a service's description."""

LOCAL = packaging.Target.of(Settings.from_context({"profile": "local"}))


@pytest.fixture(scope="session")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer of dependencies for this machine, really built."""
    output = tmp_path_factory.mktemp("layer")
    packaging.build_dependencies(LOCAL, output)
    return output / "python"


def test_the_library_layer_holds_only_rooms_that_functions_enter(tmp_path: Path) -> None:
    library = tmp_path
    packaging.build_library(LOCAL, library)
    rooms = {path.name for path in (library / "python/empath").iterdir()}
    assert not rooms & {"control", "local", "testing", "ingress"}
    assert {"domain", "ports"} <= rooms
    assert [path.name for path in library.iterdir()] == ["python"]


def test_no_source_asset_carries_bytecode(aws: Synthesised) -> None:
    roots = list(_asset_roots(aws))
    assert len(roots) == len(FUNCTIONS)
    for root in roots:
        assert not [path for path in root.rglob("*") if path.suffix == ".pyc" or path.name == "__pycache__"]


def test_the_lock_covers_every_import_of_the_layer_and_the_doors() -> None:
    doors = [ROOT / "functions" / name for name in FUNCTIONS]
    # The command line's own libraries never reach a function; uvloop is the ingress container's.
    rooms = [room for room in LIBRARY.iterdir() if room.name not in packaging.NOT_IN_FUNCTIONS]
    assert missing_in(packaging.LOCK, [*doors, *rooms]) == {}


def test_the_lock_has_no_second_aws_client() -> None:
    assert not pins(packaging.LOCK).keys() & {"boto3", "s3transfer", "awscli"}


def test_the_layer_is_trimmed_to_the_services_in_use(layer: Path) -> None:
    services = {path.name for path in (layer / "botocore/data").iterdir() if path.is_dir()}
    assert services == packaging.BOTOCORE_SERVICES
    assert not list(layer.glob("boto3*"))
    assert not list(layer.glob("*.dist-info"))
    megabytes = sum(path.stat().st_size for path in layer.rglob("*") if path.is_file()) / 1e6
    assert megabytes < 60


def test_descriptions_keep_every_operation_and_lose_only_prose(layer: Path) -> None:
    """A cold start reads them whole; the originals are botocore's own, installed beside these tests."""
    originals = Path(botocore.__file__).parent / "data"
    for original in sorted((originals / "s3").glob("*/service-2.json.gz")):
        theirs = json.loads(gzip.decompress(original.read_bytes()))
        slim = layer / "botocore/data" / original.relative_to(originals)
        ours = json.loads(slim.with_suffix("").read_bytes())
        assert ours["operations"].keys() == theirs["operations"].keys()
        assert ours["shapes"].keys() == theirs["shapes"].keys()
        assert {name: shape.get("members", {}).keys() for name, shape in ours["shapes"].items()} == {
            name: shape.get("members", {}).keys() for name, shape in theirs["shapes"].items()
        }
    assert not list((layer / "botocore/data").rglob("*.gz"))


def test_endpoints_are_known_for_the_services_in_use_in_every_partition(layer: Path) -> None:
    def read(path: Path) -> list[dict[str, Any]]:
        partitions: list[dict[str, Any]] = json.loads(path.read_bytes())["partitions"]
        return partitions

    ours = read(layer / "botocore/data/endpoints.json")
    theirs = read(Path(botocore.__file__).parent / "data/endpoints.json")
    names = packaging.BOTOCORE_SERVICES | {"email"}
    assert [
        {**partition, "services": {n: s for n, s in partition["services"].items() if n in names}}
        for partition in theirs
    ] == ours


def test_everything_in_the_layer_still_imports_after_trimming(layer: Path) -> None:
    """In a fresh interpreter that knows nothing but the layer."""
    modules = (
        "aiobotocore.session",
        "aiosmtplib",
        "aws_lambda_powertools.logging",
        "aws_lambda_powertools.metrics",
        "aws_xray_sdk.core",
        "dns.asyncresolver",
        "pydantic",
    )
    program = "\n".join(
        [
            f"import sys; sys.path.insert(0, {str(layer)!r})",
            *(f"import {module}" for module in modules),
            f"CALLS = {CALLS!r}",
            "import asyncio, aiobotocore.session as a, botocore.exceptions as e",
            "from aiobotocore.config import AioConfig",
            "async def main():",
            "    settings = AioConfig(retries={'total_max_attempts': 1}, parameter_validation=False)",
            "    own = {'aws_access_key_id': 'x', 'aws_secret_access_key': 'x', 'region_name': 'eu-west-1'}",
            "    for name, (operation, given) in CALLS.items():",
            "        keys = dict(own)",
            "        async with a.get_session().create_client(name, **keys) as client:",
            "            assert client.meta.endpoint_url",
            "        keys |= {'endpoint_url': 'http://127.0.0.1:1'}",
            "        async with a.get_session().create_client(name, config=settings, **keys) as client:",
            "            try: await getattr(client, operation)(**given)",
            "            except e.EndpointConnectionError: pass",
            "asyncio.run(main())",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_bytecode_of_the_layer_survives_an_archive(layer: Path) -> None:
    """Archives lose time stamps, so the bytecode must not depend on them (PEP 552: unchecked hash)."""
    (compiled,) = (layer / "pydantic/__pycache__").glob("main.*.pyc")
    flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
    assert flags == 0b01


def test_the_asset_changes_with_the_lock_and_the_target_only() -> None:
    prints = {
        packaging.Target("3.13", "aarch64-manylinux_2_28").fingerprint(packaging.LOCK),
        packaging.Target("3.13", "x86_64-manylinux_2_28").fingerprint(packaging.LOCK),
        packaging.Target("3.12", "x86_64-manylinux_2_28").fingerprint(packaging.LOCK),
        packaging.Target("3.11", None).fingerprint(packaging.LOCK),
    }
    assert len(prints) == 4
    again = packaging.Target("3.13", "aarch64-manylinux_2_28").fingerprint(packaging.LOCK)
    assert again in prints


def test_a_wheel_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(packaging.BundlingError, match="layer of dependencies could not be built"):
        packaging.build_dependencies(packaging.Target("3.13", "no-such-platform"), tmp_path)


def test_every_door_has_its_own_directory() -> None:
    for name in FUNCTIONS:
        assert (ROOT / "functions" / name / "handler.py").is_file()


def _asset_roots(synthesised: Synthesised) -> Iterator[Path]:
    for asset in synthesised.assets["files"].values():
        path = Path(asset["source"]["path"])
        # A layer that is not bundled here names its sources; bundling picks the files.
        if asset["source"]["packaging"] == "zip" and not path.is_absolute():
            yield synthesised.outdir / path
