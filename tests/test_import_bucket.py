"""Data sets in a bucket, and into one, against a real S3 protocol server."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from faceproof import OutputError, StorageError, UsageError, remote
from faceproof.datasets import read_manifest
from faceproof.importing.run import Options, import_data
from faceproof.importing.sharing import upload
from tests.helpers import run_cli
from tests.import_trees import TREES, encoded, read
from tests.object_store import Proxy, get, put

pytest.importorskip("s3fs", reason="the extra remote")
NAMES = itertools.count()
ONE = Options(workers=1)


def objects(folder: Path, prefix: str) -> dict[str, bytes]:
    return {f"{prefix}{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["140k", "ffhq", "coco", "manifest"])
def test_a_prefix_is_what_its_folder_is(name: str, tmp_path: Path, bucket: str, store: Proxy) -> None:
    TREES[name](tmp_path / "set")
    put(store, bucket, objects(tmp_path / "set", "a/set/"))
    here = import_data([str(tmp_path / "set")], tmp_path / "here.csv", ONE)
    there = import_data([f"s3://{bucket}/a/set/"], tmp_path / "far" / "there.csv", ONE)
    assert there.recognised[0].name == name
    # Groups that a foreign manifest names are that manifest's.
    rows = [[replace(each.row, groups=()) for each in found.pictures] for found in (here, there)]
    assert rows[0] == rows[1]
    assert [(each.group, each.split) for each in there.pictures] == [(each.group, each.split) for each in here.pictures]
    for one, other in zip(here.pictures, there.pictures, strict=True):
        assert Path(one.file.path).read_bytes() == Path(other.file.path).read_bytes()
    assert len(read_manifest(tmp_path / "far" / "there.csv")) == len(here.pictures)
    # Once more: nothing is fetched again.
    store.seen.clear()
    (tmp_path / "far" / "there.csv").unlink()
    import_data([f"s3://{bucket}/a/set/"], tmp_path / "far" / "there.csv", ONE)
    assert store.count("GET", r"\.(jpg|png)") == 0


def test_what_fails_about_one_object_and_about_the_store(tmp_path: Path, bucket: str, store: Proxy) -> None:
    put(store, bucket, {"s/real/a.jpg": encoded(1), "s/fake/b.jpg": encoded(2), "s/fake/../../c.jpg": encoded(3),
                        "s/manifest.txt": b""})  # fmt: skip
    store.rule = lambda request: "403 AccessDenied" if request.path.endswith("a.jpg") else None
    found = import_data([f"s3://{bucket}/s"], tmp_path / "m.csv", ONE)
    assert dict(found.notes.counts) == {"unreadable": 1, "outside": 1}
    assert [each.row.name for each in found.pictures] == ["fake/b.jpg"]
    for url, kind in ((f"s3://{bucket}-none/x/", StorageError), (f"s3://{bucket}/none/", UsageError),
                      ("https://example.org/set/", UsageError)):  # fmt: skip
        with pytest.raises(kind):
            import_data([url], tmp_path / "n.csv", ONE)


def test_a_manifest_in_a_bucket_names_nothing_outside(tmp_path: Path, bucket: str, store: Proxy) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encoded(5))
    lines = [
        "path,label",
        "a.jpg,photograph",
        f"{secret},generated",
        "../x.jpg,generated",
        "s3://other/x.jpg,generated",
    ]
    put(store, bucket, {"m/manifest.csv": "\n".join(lines).encode(), "m/a.jpg": encoded(1)})
    found = import_data([f"s3://{bucket}/m/manifest.csv"], tmp_path / "m.csv", ONE)
    assert dict(found.notes.counts) == {"outside": 3}
    assert len(found.pictures) == 1


def test_upload_and_back(tmp_path: Path, bucket: str, store: Proxy) -> None:
    TREES["ffhq"](tmp_path / "set")
    done = run_cli("import", tmp_path / "set", "--out", tmp_path / "m.csv", "--upload", f"s3://{bucket}/up")
    assert done.returncode == 0, done.stderr
    text = get(store, bucket, "up/manifest.csv")
    assert text is not None
    assert b"pictures/" in text
    back = import_data([f"s3://{bucket}/up/"], tmp_path / "back" / "m.csv", ONE)
    assert back.recognised[0].name == "manifest"
    first, second = read(tmp_path / "m.csv"), read(tmp_path / "back" / "m.csv")
    assert [(row["sha256"], row["split"], row["group"], row["licence"]) for row in first] == [
        (row["sha256"], row["split"], row["group"], row["licence"]) for row in second
    ]
    # Again: nothing is sent. Another set: not over the first one's manifest, unless asked.
    found = import_data([str(tmp_path / "set")], tmp_path / "again.csv", ONE)
    assert upload(found, f"s3://{bucket}/up/") == 0
    TREES["nine"](tmp_path / "other")
    other = import_data([str(tmp_path / "other")], tmp_path / "other.csv", ONE)
    with pytest.raises(OutputError, match="is another one"):
        upload(other, f"s3://{bucket}/up")
    assert upload(other, f"s3://{bucket}/up", overwrite=True) == 5 - len(
        {each.file.sha256 for each in found.pictures} & {each.file.sha256 for each in other.pictures}
    )
    with pytest.raises(UsageError, match="s3://BUCKET/PREFIX"):
        upload(other, "/tmp/x")
    assert remote.is_bucket(f"s3://{bucket}/up")
