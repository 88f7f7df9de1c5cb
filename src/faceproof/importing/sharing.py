"""Put an imported data set into a bucket: pictures by the hash of their bytes, and the manifest beside them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from faceproof import remote
from faceproof.errors import OutputError, UsageError
from faceproof.importing.results import Import, Picture
from faceproof.importing.writing import manifest_text

__all__ = ["upload"]


def upload(
    found: Import, url: str, *, overwrite: bool = False, progress: Callable[[str, int, int], None] = lambda *_: None
) -> int:
    """Upload pictures and manifest below a prefix; pictures that are there already are not sent again.

    Args:
        found: what was imported.
        url: s3://BUCKET/PREFIX.
        overwrite: replace a manifest that is there.
        progress: called with "uploading", pictures done and in all.

    Returns:
        Pictures that were sent.

    Raises:
        UsageError: not the URL of a bucket.
        OutputError: another manifest is there, or a picture cannot be read any more.
        StorageError: the bucket fails; the same command goes on.
    """
    if not remote.is_bucket(url):
        raise UsageError(f"--upload {url}: give s3://BUCKET/PREFIX")
    prefix = url if url.endswith("/") else f"{url}/"
    there, sent = set(remote.listing(prefix)), 0
    text = manifest_text(found, _object).encode()
    if f"{prefix}manifest.csv" in there and not overwrite and remote.read(f"{prefix}manifest.csv", 2**31) != text:
        raise OutputError(f"{prefix}manifest.csv is another one; give another prefix, or --overwrite to replace it")
    for number, each in enumerate(found.pictures):
        progress("uploading", number, len(found.pictures))
        target = f"{prefix}{_object(each)}"
        if target in there:
            continue
        try:
            remote.upload(Path(each.file.path), target)
        except OSError as err:
            raise OutputError(f"{each.file.path} cannot be read any more ({err.strerror or err})") from err
        sent += 1
    # Last: a manifest in the bucket says that all its pictures are there.
    if overwrite:
        remote.replace(f"{prefix}manifest.csv", text)
    else:
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "manifest.csv"
            local.write_bytes(text)
            remote.upload(local, f"{prefix}manifest.csv")
    return sent


def _object(each: Picture) -> str:
    return f"pictures/{each.file.sha256[:32]}{os.path.splitext(each.file.path)[1].lower()}"
