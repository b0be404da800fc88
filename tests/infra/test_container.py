"""The ingress's image, as far as it can be known without building it: its Dockerfile and its context.

The context is what CDK put aside for the build, so it is .dockerignore that decides here as it does there.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.constructs.ingress_service import DOCKERFILE, HEALTH_COMMAND
from infra.constructs.load_balancer import HEALTH_PORT, RELAY, SUBMISSION, SUBMISSIONS
from tests.infra.conftest import ROOT, Synthesised
from tests.infra.imports import missing_in, pins

LOCK = ROOT / "functions/ingress/ingress.lock"
LIBRARY = ROOT / "layers/empath/python/empath"
# Rooms that only a developer or an operator enters; their packages are not in the image.
NOT_IN_INGRESS = ("control", "local", "testing")


def _instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / DOCKERFILE).read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


INSTRUCTIONS = _instructions()
FINAL = INSTRUCTIONS[max(n for n, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def _of(word: str) -> list[str]:
    return [rest for name, rest in FINAL if name == word]


@pytest.fixture(scope="session")
def context(aws: Synthesised) -> Path:
    """What is sent to the builder."""
    assets = json.loads((aws.outdir / "EmpathIngress.assets.json").read_text())
    (image,) = assets["dockerImages"].values()
    return aws.outdir / str(image["source"]["directory"])


def test_what_the_dockerfile_copies_is_let_through(context: Path) -> None:
    copied = [rest.split()[:-1] for word, rest in INSTRUCTIONS if word == "COPY" and "--from" not in rest]
    assert copied
    for source in (source for sources in copied for source in sources):
        assert list(context.glob(source)), f"{source} is not in the context"


def test_nothing_else_is_let_through(context: Path) -> None:
    found = {path.relative_to(context) for path in context.rglob("*") if path.is_file()}
    beside = {path.as_posix() for path in found if not path.is_relative_to("layers/empath/python/empath")}
    assert beside == {
        ".dockerignore",
        "bootstrap.lock",
        "functions/__init__.py",
        "functions/ingress/Dockerfile",
        "functions/ingress/__init__.py",
        "functions/ingress/__main__.py",
        "functions/ingress/ingress.lock",
        "pyproject.toml",
    }
    assert not [path for path in found if path.suffix == ".pyc" or "__pycache__" in path.parts]


def test_the_wheel_is_built_from_the_context_alone(context: Path, tmp_path: Path) -> None:
    shutil.copytree(context, tmp_path / "build")
    (tmp_path / "build/README.md").touch()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=tmp_path / "build",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("empath/")}
    library = {path.relative_to(LIBRARY.parent) for path in LIBRARY.rglob("*.py")}
    assert packed == {path.as_posix() for path in library} | {"empath/py.typed"}


def test_every_package_is_pinned_and_checked() -> None:
    commands = [rest for word, rest in INSTRUCTIONS if word == "RUN"]
    installs = [part for rest in commands for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for install in installs:
        # The library's own wheel, made one line before, is the exception.
        assert "--require-hashes" in install or install.rstrip().endswith("--no-deps dist/*.whl")
        assert "--index" not in install


def test_nothing_runs_in_the_final_stage() -> None:
    """So an image for another machine than the builder's needs no emulation."""
    assert not _of("RUN")
    (built,) = (rest for word, rest in INSTRUCTIONS if word == "FROM" and rest.endswith("AS build"))
    assert built.startswith("--platform=$BUILDPLATFORM ")


def test_it_does_not_run_as_root() -> None:
    (user,) = _of("USER")
    assert all(int(number) > 0 for number in user.split(":"))
    names = [word for word, _ in FINAL]
    # Files are root's: what runs cannot change itself.
    assert names.index("USER") > names.index("COPY")
    assert "--chown" not in " ".join(_of("COPY"))


def test_it_writes_nothing() -> None:
    assert not _of("VOLUME")
    assert "PYTHONDONTWRITEBYTECODE=1" in " ".join(_of("ENV"))
    assert any("compileall" in rest for word, rest in INSTRUCTIONS if word == "RUN")


def test_its_ports_need_no_rights() -> None:
    (ports,) = _of("EXPOSE")
    exposed = {int(port) for port in ports.split()}
    assert exposed == {RELAY.container, SUBMISSION.container, SUBMISSIONS.container, HEALTH_PORT}
    assert min(exposed) >= 1024


def test_it_starts_as_every_ingress_does_and_ends_in_order() -> None:
    (start,) = _of("ENTRYPOINT")
    assert json.loads(start) == ["python", "-m", "functions.ingress"]
    assert _of("STOPSIGNAL") == ["SIGTERM"]


def test_docker_and_ecs_ask_for_its_health_in_the_same_words() -> None:
    """ECS knows nothing of the image's own health check."""
    (check,) = _of("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == HEALTH_COMMAND


def test_the_lock_covers_every_import_of_the_ingress() -> None:
    rooms = [room for room in LIBRARY.iterdir() if room.name not in NOT_IN_INGRESS]
    assert missing_in(LOCK, [ROOT / "functions/ingress", *rooms]) == {}


def test_the_lock_is_what_the_tests_run_with() -> None:
    assert pins(LOCK).items() <= pins(ROOT / "dev.lock").items()
