"""Where a training tells how it goes: CSV and a learning-curve picture, TensorBoard, the terminal."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from faceproof.errors import MissingExtraError, OutputError
from faceproof.extras import require
from faceproof.images import printable

__all__ = [
    "Ended", "Epoch", "Files", "Progress", "Silent", "TensorBoard", "Together", "Watcher", "make_folder", "write_text",
]  # fmt: skip


class Ended(Protocol):
    """What an epoch of any training ended with: a dataclass of numbers; those on val are named `val_...`."""

    @property
    def number(self) -> int:
        """Of the epoch, from 1."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def line(self) -> str:
        """What a terminal shows."""

    @property
    def panels(self) -> Mapping[str, Mapping[str, str]]:
        """Titles of the learning curve's panels -> the fields in each -> their words."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes:
        number: from 1.
        step: steps done.
        rate: learning rate of its last step.
        loss: mean training loss of the epoch.
        val_loss: binary cross-entropy on val, classes weighted alike.
        val_auc, val_tpr: AUC and TPR at FPR 1 % on val, of the weights that would be kept.
    """

    number: int
    step: int
    rate: float
    loss: float
    val_loss: float
    val_auc: float
    val_tpr: float

    @property
    def line(self) -> str:
        """What a terminal shows."""
        return (
            f"epoch {self.number}: loss {self.loss:.4f}  val loss {self.val_loss:.4f}  val AUC {self.val_auc:.4f}  "
            f"val TPR at FPR 1 % {self.val_tpr:.3f}"
        )

    @property
    def panels(self) -> Mapping[str, Mapping[str, str]]:
        """Panels of the learning curve."""
        return {
            "loss (binary cross-entropy)": {"loss": "training", "val_loss": "val"},
            "val": {"val_auc": "AUC", "val_tpr": "TPR at FPR 1 %"},
        }


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step, steps: done and in all.
        loss: mean of the last 50 steps.
        pace: crops a second since the start or resume.
        waiting: share of the time that the network waited for pictures, 0 to 1.
        left: seconds left at this pace.
    """

    step: int
    steps: int
    loss: float
    pace: float
    waiting: float
    left: float


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(
            f"cannot make the folder {printable(path)} ({err.strerror or err}); give another --out"
        ) from err


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a file, whole or not at all.

    Raises:
        OutputError: the disk does not take it; an older file stays as it was.
    """
    _place(path, text.encode("utf-8", "backslashreplace"))


def _place(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as err:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, err) from err


def _cannot_write(path: Path, err: OSError) -> OutputError:
    return OutputError(
        f"cannot write {printable(path)} ({err.strerror or err}); free space or mend permissions and give the same "
        "command again: it goes on from the last checkpoint"
    )


class Watcher(Protocol):
    """Hears of a run's progress."""

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def progress(self, progress: Progress) -> None:
        """Every few steps."""

    def epoch(self, history: Sequence[Ended]) -> None:
        """After every epoch, all epochs so far."""


class Silent:
    """Hears and says nothing."""

    def note(self, text: str) -> None:
        """Ignore."""

    def progress(self, progress: Progress) -> None:
        """Ignore."""

    def epoch(self, history: Sequence[Ended]) -> None:
        """Ignore."""


class Together:
    """Hands everything on to several watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def note(self, text: str) -> None:
        """Hand on."""
        for watcher in self.watchers:
            watcher.note(text)

    def progress(self, progress: Progress) -> None:
        """Hand on."""
        for watcher in self.watchers:
            watcher.progress(progress)

    def epoch(self, history: Sequence[Ended]) -> None:
        """Hand on."""
        for watcher in self.watchers:
            watcher.epoch(history)


class Files(Silent):
    """Writes `epochs.csv`, and `curve.png` where matplotlib is installed, after every epoch."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)

    def epoch(self, history: Sequence[Ended]) -> None:
        """Write both anew.

        Raises:
            OutputError: the disk does not take them.
        """
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, _names(history[-1]))
        writer.writeheader()
        writer.writerows({name: getattr(epoch, name) for name in _names(epoch)} for epoch in history)
        write_text(self.out / "epochs.csv", stream.getvalue())
        with contextlib.suppress(MissingExtraError):
            _draw(self.out / "curve.png", history)


def _names(epoch: Ended) -> list[str]:
    return [field.name for field in fields(epoch)]  # type: ignore[arg-type]  # a dataclass; a protocol cannot say so


def _draw(path: Path, history: Sequence[Ended]) -> None:
    """Draw the learning curve, a panel beside the other."""
    figures = require("train", "matplotlib.figure")
    figure = figures.Figure(figsize=(8, 3.2), layout="constrained")
    panels = history[-1].panels
    numbers = [epoch.number for epoch in history]
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name, word in names.items():
            axes.plot(numbers, [getattr(epoch, name) for epoch in history], marker="o", markersize=3, label=word)
        axes.set_xlabel("epoch")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    _place(path, picture.getvalue())


class TensorBoard(Silent):
    """Writes TensorBoard event files to a folder."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        module = require("train", "torch.utils.tensorboard")
        with self._errors():
            self.writer: Any = module.SummaryWriter(str(folder))

    def progress(self, progress: Progress) -> None:
        """Log loss, pace and waiting by step."""
        with self._errors():
            for name in ("loss", "pace", "waiting"):
                self.writer.add_scalar(f"train/{name}", getattr(progress, name), progress.step)

    def epoch(self, history: Sequence[Ended]) -> None:
        """Log the newest epoch's figures by step.

        Raises:
            OutputError: the disk does not take them.
        """
        last = history[-1]
        with self._errors():
            for name in [name for name in _names(last) if name == "rate" or name.startswith("val_")]:
                self.writer.add_scalar(f"val/{name.removeprefix('val_')}", getattr(last, name), last.step)
            self.writer.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise _cannot_write(self.folder, err) from err
