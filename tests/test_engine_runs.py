"""Runs by an engine as real processes: workers, machines and drivers killed; every picture exactly once."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from faceproof.inputs import Inputs
from faceproof.scan import Options, scan
from tests.engine_runs import assert_exactly_once, fill, hooked, parts, records
from tests.helpers import TOKEN, answering, command, environment, new_token, processes, run_cli, start_cli, wait_until
from tests.object_store import KEY_ID, SECRET, environment_of, free_port, put, running_store
from tests.ray_nodes import Cluster, Node, traces
from tests.test_remote_runs import parts_of
from tests.test_shards import tar_of

pytestmark = pytest.mark.slow
NUMBER, SIZE = 240, "8"
SLEEP = 0.02
"""Seconds each picture takes more, so that there is time to kill."""
SLOW = 500.0
"""Seconds a run may take on a busy machine: each new worker of Ray is several processes' start."""
Many = tuple[Path, dict[str, str]]
"""A folder of pictures, and path -> status its record must have."""


@pytest.fixture(scope="module", autouse=True)
def _token_of_ray() -> Iterator[None]:
    """Clusters nobody else can join; what ~/.ray holds is without effect (since 2.59 Ray takes a token from there)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
        yield


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, face_jpeg: bytes) -> Many:
    folder = tmp_path_factory.mktemp("many")
    return folder, fill(folder, NUMBER, face_jpeg)


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return hooked(tmp_path_factory.mktemp("hooks"), SLEEP)


@pytest.fixture(scope="module")
def cluster(hook: dict[str, str]) -> Iterator[Cluster]:
    """Two machines of one CPU each."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with Cluster(hook, 1, 1) as found:
        yield found
        assert len(list(traces(found.folder))) > 3
    assert list(traces(found.folder)) == []


def words(engine: str, given: Path, out: Path) -> list[str]:
    return ["scan", str(given), "--out", str(out), "--engine", engine, "--unit", SIZE, "-q"]


def started(arguments: list[str], env: dict[str, str], said: Path) -> subprocess.Popen[bytes]:
    """Not a pipe for what it says: reading one to its end would wait for orphans."""
    with said.open("ab") as stream:
        return start_cli(*arguments, env=env, stderr=stream.fileno())


def wait_for(out: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: len(parts(out)) >= count or process.poll() is not None, seconds=SLOW, what=f"{count} parts")
    assert process.poll() is None, "the run was over before anything could be killed"


def one_line(text: str, pattern: str) -> None:
    assert re.fullmatch(r"faceproof: [^\n]+\n", text), text
    assert re.search(pattern, text), text


# ---- this machine's processes


def test_local_worker_and_driver_killed(many: Many, hook: dict[str, str], tmp_path: Path) -> None:
    """A worker is killed, then everything, then the command runs to its end: every picture exactly once."""
    folder, expected = many
    out, said, mark = tmp_path / "out.jsonl", tmp_path / "said.txt", new_token()
    arguments = [*words("local", folder, out), "--workers", "2"]
    process = started(arguments, {**hook, TOKEN: mark}, said)
    wait_for(out, 3, process)
    victims = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    victims[0].kill()
    wait_for(out, len(parts(out)) + 4, process)
    process.kill()
    process.wait(20)
    assert 7 <= len(parts(out)) < NUMBER / int(SIZE)
    done = run_cli(*arguments, env=hook)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")  # some pictures are damaged
    assert_exactly_once(out, expected)
    wait_until(lambda: not processes(mark), seconds=20, what="orphaned workers to end")


def test_local_interrupt_and_summary(many: Many, hook: dict[str, str], tmp_path: Path) -> None:
    folder, expected = many
    out, said = tmp_path / "out.jsonl", tmp_path / "said.txt"
    process = started([*words("local", folder, out), "--workers", "2"], {**hook, TOKEN: new_token()}, said)
    wait_for(out, 3, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert said.read_text() == f"faceproof: stopped; finished parts are in {out}: the same command goes on\n"
    report, summary = tmp_path / "report.html", tmp_path / "summary.json"
    more = ("--report", str(report), "--report-maps", "0", "--summary", str(summary), "--overwrite", "--min-face", "20")
    done = run_cli(*words("local", folder, out)[:-1], *more, timeout=300)
    assert done.returncode == 1
    assert f"{NUMBER} records in {out} " in re.sub(r"\s+", " ", done.stderr)
    assert_exactly_once(out, expected)
    faces = sum(record["verdict"] is not None for record in records(out))
    assert json.loads(summary.read_text())["judged"] == faces == sum(each == "ok" for each in expected.values())
    assert f"{NUMBER}" in report.read_text()


def test_a_picture_that_kills_its_worker(hook: dict[str, str], tmp_path: Path, face_jpeg: bytes) -> None:
    """It becomes a record with an error, and its neighbours are not touched."""
    expected = with_killers(tmp_path, face_jpeg)
    out = tmp_path / "out.jsonl"
    done = run_cli(*words("local", tmp_path / "in", out), "--workers", "2", env=hook, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")
    killers_are_named(out, expected)


def with_killers(tmp_path: Path, face_jpeg: bytes) -> dict[str, str]:
    expected = fill(tmp_path / "in", 30, face_jpeg)
    for number in (6, 9):  # in one unit
        source = tmp_path / "in" / f"sub{number % 3}" / f"{number:04d}.png"
        killer = source.rename(source.with_name(f"{number:04d}-killer.png"))
        del expected[str(source)]
        expected[str(killer)] = "error"
    return expected


def killers_are_named(out: Path, expected: dict[str, str]) -> None:
    for record in assert_exactly_once(out, expected):
        if "killer" in record["path"]:
            assert re.search("process that read it was killed.*--max-pixels", record["error"])


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_from_a_bucket_into_a_bucket(
    engine: str, tmp_path: Path, face_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="the extra [remote] is not installed")
    pytest.importorskip("moto", reason="the S3 server for tests is not installed")
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra [ray] is not installed")
    with running_store() as store:
        for name, value in environment_of(store).items():
            monkeypatch.setenv(name, value)
        objects = {f"in/{n}.jpg": face_jpeg if n % 5 == 0 else face_jpeg[:600] for n in range(20)}
        put(store, "bucket", {**objects, "s/0.tar": tar_of({"x.jpg": face_jpeg})})
        given = [
            "scan",
            "s3://bucket/in/",
            "s3://bucket/s/0.tar",
            "--out",
            "s3://bucket/out.jsonl",
            "-q",
            "--workers",
            "2",
        ]
        arguments = [*given, "--engine", engine, "--unit", "4", *(["--cluster", "local"] if engine == "ray" else [])]
        for _ in range(2):
            done = run_cli(*arguments, timeout=300)
            assert (done.returncode, done.stderr) == (1, "")
            manifest, found = parts_of(store, "bucket", "out.jsonl")
            assert (manifest["finished"], len(found)) == (True, 21)
            assert {record["path"] for record in found} == {
                "s3://bucket/s/0.tar::x.jpg", *(f"s3://bucket/{name}" for name in objects)
            }  # fmt: skip
            assert KEY_ID not in str(manifest) + str(found)
            assert SECRET not in str(manifest) + str(found)
        if engine == "ray":  # what follows is not the engine's
            return
        # The other way of writing into a bucket leaves these parts alone.
        one_line(run_cli(*given, timeout=300).stderr, "holds parts of a run with --engine; go on with --engine")
        store.rule = lambda request: "403 AccessDenied" if request.method == "PUT" else None
        one_line(run_cli(*arguments, timeout=300).stderr, "permission denied")


# ---- two machines


def test_ray_gives_what_a_scan_gives(cluster: Cluster, many: Many, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the extra [parquet] is not installed")
    folder, expected = many
    (tmp_path / "s.tar").write_bytes(tar_of({"x.jpg": b"no picture", "y.txt": b"1"}))
    out, given = tmp_path / "out.parquet", [str(folder), "s.tar"]
    arguments = ["scan", *given, "--out", "out.parquet", "--engine", "ray", "--cluster", cluster.address]
    done = run_cli(*arguments, "--unit", "25", cwd=tmp_path, timeout=SLOW)
    assert done.returncode == 1
    assert "241 records in " in re.sub(r"\s+", " ", done.stderr)
    assert "1 files in folders have no picture's ending" in re.sub(r"\s+", " ", done.stderr)
    found = assert_exactly_once(out, {**expected, "s.tar::x.jpg": "error"})
    plain = {result.path: result.to_dict() for result in scan(Inputs([str(folder)]), Options(), workers=1)}
    for record in found:
        if record["path"] in plain:
            assert json.loads(json.dumps(record)) == json.loads(json.dumps(plain[record["path"]]))


def test_ray_worker_killed(cluster: Cluster, many: Many, tmp_path: Path) -> None:
    folder, expected = many
    out = tmp_path / "out.jsonl"
    process = started(
        [*words("ray", folder, out), "--cluster", cluster.address], {TOKEN: new_token()}, tmp_path / "said"
    )
    wait_for(out, 3, process)
    wait_until(cluster.workers, seconds=60, what="a worker")[0].kill()
    assert process.wait(SLOW) == 1
    assert (tmp_path / "said").read_text() == ""
    assert_exactly_once(out, expected)


def test_ray_machine_killed_and_another_joins(cluster: Cluster, many: Many, tmp_path: Path) -> None:
    folder, expected = many
    out, lost = tmp_path / "out.jsonl", cluster.nodes[-1]
    process = started(
        [*words("ray", folder, out), "--cluster", cluster.address], {TOKEN: new_token()}, tmp_path / "said"
    )
    wait_for(out, 3, process)
    wait_until(lambda: cluster.workers(lost), seconds=60, what="a worker on the second machine")
    lost.kill()
    assert not lost.alive
    joined = cluster.add(1)
    assert process.wait(SLOW) == 1
    assert (tmp_path / "said").read_text() == ""
    assert_exactly_once(out, expected)
    assert joined.alive


def test_ray_driver_killed_and_run_again(cluster: Cluster, many: Many, tmp_path: Path) -> None:
    """The next run starts at once, while workers of the killed one may still be about."""
    folder, expected = many
    out = tmp_path / "out.jsonl"
    arguments = [*words("ray", folder, out), "--cluster", cluster.address]
    for more in (2, 6):
        process = started(arguments, {TOKEN: new_token()}, tmp_path / "said")
        wait_for(out, len(parts(out)) + more, process)
        process.kill()
        process.wait(20)
    assert len(parts(out)) < NUMBER / int(SIZE)
    done = run_cli(*arguments, timeout=SLOW)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert (tmp_path / "said").read_text() == ""
    assert_exactly_once(out, expected)


def test_ray_interrupted(cluster: Cluster, many: Many, tmp_path: Path) -> None:
    folder, _ = many
    out = tmp_path / "out.jsonl"
    process = started(
        [*words("ray", folder, out), "--cluster", cluster.address], {TOKEN: new_token()}, tmp_path / "said"
    )
    wait_for(out, 3, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert (
        tmp_path / "said"
    ).read_text() == f"faceproof: stopped; finished parts are in {out}: the same command goes on\n"
    held = len(parts(out))
    assert len(json.loads((out / "_manifest.json").read_text())["parts"]) <= held
    wait_until(lambda: not cluster.workers(), seconds=60, what="workers to end")


def test_ray_picture_that_kills_its_worker(cluster: Cluster, tmp_path: Path, face_jpeg: bytes) -> None:
    expected = with_killers(tmp_path, face_jpeg)
    out = tmp_path / "out.jsonl"
    done = run_cli(*words("ray", tmp_path / "in", out), "--cluster", cluster.address, timeout=SLOW)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    killers_are_named(out, expected)


def test_a_node_takes_everything_along(tmp_path: Path) -> None:
    """Also what has left its session and wiped its environment, as Ray's agents do, and when the tests are killed."""
    stray = f"env -i setsid sleep 987 <&- 3>>{tmp_path}/held"
    code = (
        "import sys, time; from pathlib import Path; from tests.ray_nodes import Node\n"
        f"node = Node(['sh', '-c', {f'{stray} & {stray} & exec {stray}'!r}], {{}}, Path(sys.argv[1])); time.sleep(987)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "said")], env=environment()) as process:
        wait_until(
            lambda: [each.command for each in traces(tmp_path)].count("sleep 987") == 3, seconds=60, what="strays"
        )
        process.kill()
    wait_until(lambda: not list(traces(tmp_path)), seconds=60, what="the end of strays")
    node = Node(["sh", "-c", f"{stray} & exec {stray}"], {}, tmp_path / "said")
    wait_until(lambda: [each.command for each in traces(tmp_path)].count("sleep 987") == 2, seconds=60, what="strays")
    node.kill()
    assert list(traces(tmp_path)) == []


# ---- what is wrong, in one line


def test_ray_cluster_that_cannot_be_reached(tmp_path: Path, face_jpeg: bytes) -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    given = words("ray", tmp_path / "a.jpg", tmp_path / "out.jsonl")
    for address, message in {
        f"127.0.0.1:{free_port()}": r"no Ray cluster answers at 127.0.0.1:\d+ \(Connection refused\); start one with",
        "ray://127.0.0.1:10001": "is no address of a Ray cluster; run the command on one of its machines",
        "somewhere": "is no address of a Ray cluster",
        "no-such-host.invalid:6379": "no Ray cluster answers at no-such-host.invalid:6379",
    }.items():
        done = run_cli(*given, "--cluster", address)
        assert done.returncode == 2
        one_line(done.stderr, message)
    with answering(http.server.BaseHTTPRequestHandler) as port:
        done = run_cli(*given, "--cluster", f"127.0.0.1:{port}", timeout=SLOW)
        assert done.returncode == 2
        one_line(done.stderr, rf"what answers at 127.0.0.1:{port} is no Ray cluster")
    assert parts(tmp_path / "out.jsonl") == []


def test_wrong_engines_and_options(tmp_path: Path, face_jpeg: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    out = str(tmp_path / "out.jsonl")
    for more, message in {
        ("--engine", "rai"): "unknown engine 'rai'; did you mean 'ray'",
        ("--engine", "local", "--cluster", "auto"): "--cluster is about --engine ray; give both",
        ("--cluster", "auto"): "--cluster is about --engine ray; give both",
    }.items():
        done = run_cli("scan", tmp_path / "a.jpg", "--out", out, *more)
        assert done.returncode == 2
        one_line(done.stderr, message)
    done = run_cli("scan", tmp_path / "a.jpg", "--out", tmp_path / "out", "--engine", "local")
    one_line(done.stderr, "an engine's results are a folder of parts; name it by their format")
    assert run_cli("scan", tmp_path / "a.jpg", "--out", out, "--engine", "local", "-q").returncode == 0
    done = run_cli("scan", tmp_path / "a.jpg", "--out", out, "--engine", "local", "--fpr", "0.05")
    assert done.returncode == 1
    one_line(done.stderr, "holds results made with fpr None, and now it is 0.05")
    done = run_cli("scan", tmp_path / "a.jpg", "--out", out)
    one_line(done.stderr, "is a folder; give a file")


def test_ray_cluster_that_asks_for_a_token(cluster: Cluster, tmp_path: Path, face_jpeg: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    given = words("ray", tmp_path / "a.jpg", tmp_path / "out.jsonl")
    done = run_cli(*given, "--cluster", cluster.address, env={"RAY_AUTH_MODE": "disabled"}, timeout=SLOW)
    assert done.returncode == 2
    last = done.stderr.splitlines(keepends=True)[-1]  # after Ray's own that say InvalidAuthToken
    one_line(last, f"{cluster.address} cannot be joined .*; look at `ray status`, and if it asks for a token")


def test_ray_machine_without_the_model(cluster: Cluster, tmp_path: Path, face_jpeg: bytes) -> None:
    """The model lies where only the driver sees it: behind one of its open files."""
    from faceproof.detectors.store import model_folder

    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    handle = os.open(model_folder(None), os.O_RDONLY | os.O_DIRECTORY)
    arguments = [*words("ray", tmp_path / "a.jpg", tmp_path / "o.jsonl"), "--cluster", cluster.address]
    done = subprocess.run(
        command(*arguments, "--model", f"/proc/self/fd/{handle}"), pass_fds=[handle], capture_output=True, text=True,
        timeout=SLOW, env=environment(), check=False,
    )  # fmt: skip
    os.close(handle)
    assert done.returncode == 2
    one_line(done.stderr, rf"machine \S+: unknown model '/proc/self/fd/{handle}'")


def test_ray_machines_with_other_versions(hook: dict[str, str], tmp_path: Path, face_jpeg: bytes) -> None:
    """One cluster with another faceproof, one that says it is another Ray."""
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    given = words("ray", tmp_path / "a.jpg", tmp_path / "o.jsonl")
    for env, before, message in (
        (
            {"FACEPROOF_TEST_VERSION": "0.0.9"},
            "",
            r"machine \S+ has faceproof 0.0.9, this one [\d.]+; install the same",
        ),
        (
            {},
            "import ray; ray.__version__ = '2.0.0'",
            r"differ in their versions \(.*2\.0\.0.*\); install the same Ray",
        ),
    ):
        with Cluster({**hook, **env}, 1, before=before) as other:
            done = run_cli(*given, "--cluster", other.address, timeout=SLOW)
        assert done.returncode == 2
        one_line(done.stderr, message)
