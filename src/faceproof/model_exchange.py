"""Models to and from the Hugging Face hub, a bucket or a folder: hf://OWNER/NAME[@REVISION], s3://BUCKET/FOLDER, paths.

Only files that a card names travel, under plain names, with bounded sizes: ONNX, safetensors, JSON, text. What is not
named is not fetched, so nothing else in a repository (pickled weights, code) ever reaches this machine. Hashes are
checked before the folder appears: SHA256SUMS over all files, and the card's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from faceproof import remote
from faceproof.detectors.anomaly import read_scorer
from faceproof.detectors.card import MAX_CARD_BYTES, Card, read_card
from faceproof.detectors.folders import new_folder, training_groups
from faceproof.detectors.readme import readme
from faceproof.detectors.store import model_folder
from faceproof.errors import FaceproofError, ModelError, PictureError, StorageError, UsageError, plain
from faceproof.extras import require
from faceproof.fusion import read_fusion
from faceproof.images import Limits, printable, read_bytes

__all__ = ["HUB", "MAX_WEIGHTS", "Pulled", "pull", "push"]

HUB = "hf://"
SUMS = "SHA256SUMS"
README = "README.md"
MAX_WEIGHTS = 2 * 2**30
"""Bytes of the largest model fetched."""
MAX_BYTES = {"card.json": MAX_CARD_BYTES, "fusion.json": 2 * 2**20, README: 2**20, SUMS: 2**16}
MAX_OTHER = 256 * 2**20
ENDINGS = (".onnx", ".safetensors", ".json", ".txt", ".md")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_REPOSITORY = re.compile(r"hf://([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w.-][\w./-]{0,99}))?")
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Pulled:
    """What was fetched or sent.

    Attributes:
        card: of the model.
        where: the folder, URL or repository.
        revision: of a hub's repository: the commit; "" elsewhere.
        files: name -> bytes.
        summed: whether SHA256SUMS was there to check.
    """

    card: Card
    where: str
    revision: str
    files: Mapping[str, int]
    summed: bool = True


class _Place(Protocol):
    """Where models lie. `names` are files; `read` is bounded; `write` puts all files there at once or in order."""

    revision: str

    def names(self) -> set[str]: ...

    def read(self, name: str, limit: int) -> bytes: ...

    def write(self, files: Mapping[str, bytes], *, overwrite: bool) -> None: ...


def push(model: str | os.PathLike[str], target: str, *, public: bool = False, overwrite: bool = False) -> Pulled:
    """Send a model: its folder's files, a README made from the card, and SHA256SUMS.

    Args:
        model: shipped name or folder.
        target: hf://OWNER/NAME (made if missing, private), s3://BUCKET/FOLDER, or a folder.
        public: make a new repository on the hub for everyone to see.
        overwrite: replace a model in a folder or bucket; on the hub every push is a new revision.

    Raises:
        ModelError: the model must not be used.
        UsageError: something is there already, or the target is none.
        StorageError: the hub or bucket fails or refuses.
    """
    folder = model_folder(model)
    card = _checked(folder)
    files = {name: read_bytes(folder / name, Limits(max_bytes=_limit(name))) for name in sorted(_named(card.raw))
             if (folder / name).is_file()}  # fmt: skip
    facts = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    files[README] = readme(card, facts).encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    files[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    place = _place(target, public=public)
    place.write(files, overwrite=overwrite)
    return Pulled(card, printable(target), place.revision, {name: len(data) for name, data in files.items()})


def pull(
    source: str, out: str | os.PathLike[str], *, overwrite: bool = False, progress: Progress = lambda name, size: None
) -> Pulled:
    """Fetch a model into a new folder, which appears when everything in it was checked.

    Args:
        source: hf://OWNER/NAME or hf://OWNER/NAME@REVISION, s3://BUCKET/FOLDER, or a folder.
        out: the model folder to be.
        overwrite: replace an older model there.
        progress: called with each file's name and bytes when it is there.

    Raises:
        ModelError: a hash differs, a file is missing, too large or of a forbidden kind; `out` is then as before.
        UsageError: `out` is taken, or the source is none.
        StorageError: the hub or bucket fails or refuses.
    """
    place = _place(source)
    with new_folder(out, overwrite=overwrite) as folder:
        there = place.names()
        if "card.json" not in there:
            raise ModelError(f"{printable(source)} holds no card.json: it is no model of faceproof, or not a whole one")
        data = place.read("card.json", MAX_CARD_BYTES)
        sums = _sums(place.read(SUMS, _limit(SUMS))) if SUMS in there else None
        sizes = {}
        for name in ["card.json", *sorted(_named(_card(data, source)) - {"card.json"}), README]:
            if name not in there:
                continue  # the checks below know what a model cannot be without
            data = data if name == "card.json" else place.read(name, _limit(name))
            if sums is not None and sums.get(name) != hashlib.sha256(data).hexdigest():
                raise ModelError(f"{name} in {printable(source)} does not match {SUMS}: damaged or tampered with")
            (folder / name).write_bytes(data)
            sizes[name] = len(data)
            progress(name, len(data))
        card = _checked(folder)
    return Pulled(card, printable(out), place.revision, sizes, sums is not None)


def _checked(folder: Path) -> Card:
    """Read everything a model folder holds, with its hashes."""
    card = read_card(folder)
    read_fusion(folder)
    read_scorer(folder, card)
    training_groups(folder)
    _named(card.raw)
    return card


def _card(data: bytes, source: str) -> Mapping[str, Any]:
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as err:
        raise ModelError(f"card.json in {printable(source)} is no card ({plain(err)[:100]})") from err


def _named(raw: Mapping[str, Any]) -> set[str]:
    """Names of the files a card speaks of, and of the fusion, which is found by its name.

    Raises:
        ModelError: one is no plain name, or of a kind that is not fetched.
    """
    try:
        names = {"card.json", "fusion.json", str(raw["file"])}
        if raw.get("mixture") is not None:
            names.add(str(raw["mixture"]["file"]))
        if raw["training"].get("groups") is not None:
            names.add(str(raw["training"]["groups"]["file"]))
    except (KeyError, TypeError, AttributeError) as err:
        raise ModelError(f"the card does not say which files belong to the model ({err!r})") from err
    for name in names:
        if not _NAME.fullmatch(name) or not name.lower().endswith(ENDINGS):
            raise ModelError(
                f"the card names {plain(name)[:100]!r}, which is not the plain name of a file of the kinds taken: "
                f"{', '.join(ENDINGS)}"
            )
    return names


def _limit(name: str) -> int:
    return MAX_WEIGHTS if name.endswith(".onnx") else MAX_BYTES.get(name, MAX_OTHER)


def _sums(data: bytes) -> dict[str, str]:
    found = re.findall(r"^([0-9a-f]{64}) [ *](\S+)$", data.decode("utf-8", "replace"), re.M)
    return {name: digest for digest, name in found}


def _place(where: str, *, public: bool = False) -> _Place:
    if where.startswith(HUB):
        return _Hub(where, public=public)
    if remote.is_bucket(where):
        return _Bucket(where)
    if remote.is_url(where):
        raise UsageError(f"{printable(where)}: models go to and from hf://OWNER/NAME, s3://BUCKET/FOLDER and folders")
    return _Folder(where)


class _Folder:
    """A folder of this machine, or one that is mounted."""

    revision = ""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def names(self) -> set[str]:
        if not self._path.is_dir():
            raise UsageError(f"no folder at {printable(self._path)}")
        return {entry.name for entry in self._path.iterdir() if entry.is_file()}

    def read(self, name: str, limit: int) -> bytes:
        try:
            return read_bytes(self._path / name, Limits(max_bytes=limit))
        except PictureError as err:
            raise ModelError(f"{printable(self._path / name)} cannot be taken: {err}") from err

    def write(self, files: Mapping[str, bytes], *, overwrite: bool) -> None:
        with new_folder(self._path, overwrite=overwrite) as folder:
            for name, data in files.items():
                (folder / name).write_bytes(data)


class _Bucket:
    """A prefix in a bucket."""

    revision = ""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        if "/" not in self._url.partition("://")[2]:
            raise UsageError(f"{printable(url)} is a whole bucket; give s3://BUCKET/FOLDER")

    def names(self) -> set[str]:
        return {each[len(self._url) + 1 :] for each in remote.listing(f"{self._url}/")}

    def read(self, name: str, limit: int) -> bytes:
        try:
            return remote.read(f"{self._url}/{name}", limit)
        except PictureError as err:
            raise ModelError(f"{printable(self._url)}/{name} cannot be taken: {err}") from err

    def write(self, files: Mapping[str, bytes], *, overwrite: bool) -> None:
        if "card.json" in self.names() and not overwrite:
            raise UsageError(f"{printable(self._url)} holds a model already; give another place, or --overwrite")
        # The sums come last: a model whose sending broke off does not match them.
        for name in sorted(files, key=lambda each: each == SUMS):
            remote.replace(f"{self._url}/{name}", files[name])


class _Hub:
    """A repository of the Hugging Face hub, or of a server that speaks its protocol (HF_ENDPOINT)."""

    def __init__(self, url: str, *, public: bool) -> None:
        found = _REPOSITORY.fullmatch(url)
        if found is None or ".." in url:
            raise UsageError(f"{plain(url)[:200]} is not hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        self._hub = require("hub")
        self._repository, self._wanted, self._public = found[1], found[2], public
        self._api = self._hub.HfApi(library_name="faceproof")
        self.revision = ""

    def names(self) -> set[str]:
        with self._failures():
            info = self._api.model_info(self._repository, revision=self._wanted)
        # The commit is kept to: what a push puts there meanwhile cannot mix with what is fetched.
        self.revision = str(info.sha or "")
        if not re.fullmatch(r"[0-9a-f]{40,64}", self.revision):
            raise StorageError(f"the hub names no commit of {self._repository}; try again")
        return {str(each.rfilename) for each in info.siblings or ()}

    def read(self, name: str, limit: int) -> bytes:
        url = self._hub.hf_hub_url(self._repository, name, revision=self.revision, endpoint=self._api.endpoint)
        headers = self._hub.utils.build_hf_headers(library_name="faceproof")
        stream, size = io.BytesIO(), 0
        with (
            self._failures(),
            self._hub.get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=60) as answer,
        ):
            self._hub.utils.hf_raise_for_status(answer)
            for part in answer.iter_bytes(1 << 20):
                size += stream.write(part)
                if size > limit:
                    raise ModelError(f"{name} in {self._repository} has over {limit >> 20} MiB and is not fetched")
        return stream.getvalue()

    def write(self, files: Mapping[str, bytes], *, overwrite: bool) -> None:
        del overwrite  # revisions stay
        if self._wanted:
            raise UsageError("push to hf://OWNER/NAME: a revision is made by pushing, and cannot be chosen")
        operations = [self._hub.CommitOperationAdd(name, data) for name, data in files.items()]
        with self._failures(), _quiet(self._hub):
            self._api.create_repo(self._repository, private=not self._public, exist_ok=True)
            commit = self._api.create_commit(self._repository, operations, commit_message="Push a faceproof model")
        self.revision = str(commit.oid)

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn the client's errors into ours, without their requests' headers and ids."""
        try:
            yield
        except (FaceproofError, MemoryError):
            raise
        except Exception as err:  # the hub's, the HTTP library's, and OSError have no base in common
            response = getattr(err, "response", None)
            status = getattr(response, "status_code", None)
            shown = f"hf://{self._repository}"
            if status in (401, 403):
                text = f"{shown}: permission denied ({status}); set HF_TOKEN, and check what it may do"
            elif status == 404:
                text = f"there is no {shown} at that revision, or you may not see it; check the name, or set HF_TOKEN"
            elif status is not None:
                text = f"{shown}: the hub answered {status}; try again later"
            else:
                text = f"{shown}: the hub cannot be reached or does not answer well ({type(err).__name__})"
            raise StorageError(text) from None


@contextlib.contextmanager
def _quiet(hub: Any) -> Iterator[None]:
    """The client's own progress bars would run into ours."""
    hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        hub.utils.enable_progress_bars()
