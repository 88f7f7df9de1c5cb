"""`faceproof scan --engine`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from faceproof.engine_run import EngineRun
    from faceproof.engines import Engine
    from faceproof.inputs import Inputs
    from faceproof.scan import Options

__all__ = ["Choice", "ClusterOption", "EngineOption", "UnitOption", "scan_in_parts"]

ENGINES = ("local", "ray")

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="Work in units whose results are parts of a folder: local (this machine) or ray (many machines).",
        show_default="one file, in order",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="HOST:PORT",
        help="Ray cluster to join; auto: the one this machine is in; local: one for this run.",
        show_default="RAY_ADDRESS, auto, local",
    ),
]
UnitOption = Annotated[
    int, typer.Option("--unit", min=1, metavar="N", help="With --engine: pictures of a unit of work, hence of a part.")
]


@dataclass(frozen=True)
class Choice:
    """Which engine, and how it is used: as the options say."""

    engine: str | None
    cluster: str | None
    unit: int
    workers: int | None

    def make(self) -> Engine:
        """Make the engine.

        Raises:
            UsageError: no such engine, or a cluster for one that has none.
        """
        from faceproof.errors import UsageError, unknown_name

        if self.engine is not None and self.engine not in ENGINES:
            raise unknown_name("engine", self.engine, list(ENGINES))
        if self.engine == "ray":
            from faceproof.engine_ray import RayEngine

            return RayEngine(self.cluster, self.workers)
        if self.cluster is not None:
            raise UsageError("--cluster is about --engine ray; give both")
        from faceproof.engine_local import LocalEngine

        return LocalEngine(self.workers)


def scan_in_parts(
    inputs: Inputs,
    out: str,
    options: Options,
    choice: Choice,
    *,
    overwrite: bool,
    hidden: bool,
    on_record: Callable[[Mapping[str, Any]], None] | None,
) -> EngineRun:
    """Scan with an engine into a folder of parts; show progress and what came of it; return the finished run."""
    from faceproof import terminal
    from faceproof.engine_run import open_run

    engine = choice.make()
    with open_run(out, options, tuple(inputs.arguments), overwrite=overwrite) as run:
        before = run.total
        with terminal.progress(inputs, hidden=hidden) as bar:
            run.scan(
                inputs, engine, size=choice.unit, on_skip=bar.skipped,
                on_done=lambda done: bar.done(done.records, done.counts.get("generated", 0)),
            )  # fmt: skip
        if not hidden:
            terminal.summary(run, before, run.ignored)
        if on_record is not None:
            for record in run.records():
                on_record(record)
    return run
