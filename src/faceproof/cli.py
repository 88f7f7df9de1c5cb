"""The command line: parse, one library call, show. Only typer is imported before a command runs.

Exit codes: 0 all pictures were read; 1 some could not be read, or the run could not finish; 2 wrong use.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from faceproof._version import VERSION
from faceproof.cli_calibrate import calibrate
from faceproof.cli_compare import compare
from faceproof.cli_duplicates import duplicates
from faceproof.cli_engines import ClusterOption, EngineOption, UnitOption
from faceproof.cli_evaluate import evaluate
from faceproof.cli_explain import explain
from faceproof.cli_export import export
from faceproof.cli_generate import generating
from faceproof.cli_import import importing
from faceproof.cli_live import live
from faceproof.cli_map import picture_map
from faceproof.cli_models import models
from faceproof.cli_options import (
    AllFilesOption,
    AlphaOption,
    FaceDetectorOption,
    FprOption,
    MaxPixelsOption,
    MetadataOption,
    MinFaceOption,
    ModelOption,
    QuietOption,
    StabilityOption,
    WorkersOption,
)
from faceproof.cli_page import page
from faceproof.cli_posts import posts
from faceproof.cli_pretrain import pretrain
from faceproof.cli_reference import reference
from faceproof.cli_serve import serve
from faceproof.cli_study import study
from faceproof.cli_train import train
from faceproof.cli_video import FpsOption, ResizeOption, ScenesOption

if TYPE_CHECKING:
    from faceproof.engine_run import EngineRun
    from faceproof.near_matches import Known
    from faceproof.reports import ResultFile
    from faceproof.scan import Options

app = typer.Typer(
    name="faceproof",
    help="Is this face a photograph, or was it generated? Checks pictures offline, with a calibrated "
    "probability, its reasons, and a third answer: inconclusive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ReportMapsOption = Annotated[
    int,
    typer.Option("--report-maps", min=0, metavar="N", help="Pictures of the report with maps; seconds each."),
]
NearOption = Annotated[
    str | None,
    typer.Option(
        "--near",
        metavar="HASHES",
        help="With --report: look for near matches in this file of `faceproof duplicates --hashes`.",
        show_default=False,
    ),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="What runs the network: onnxruntime, openvino, openvino-bf16, litert, or auto, the fastest installed "
        "one that gives the same scores.",
        show_default="onnxruntime, or what the model's file is for",
    ),
]


def main() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    from faceproof.errors import FaceproofError, MissingExtraError, ModelError, UsageError

    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets it escaped.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _output_errors():
            app(standalone_mode=True)
    except (UsageError, ModelError, MissingExtraError) as err:
        _fail(err, 2)
    except FaceproofError as err:
        _fail(err, 1)


def _fail(message: object, code: int) -> NoReturn:
    """Say one line: names in messages may hold line ends and terminal codes."""
    from faceproof.errors import plain

    with contextlib.suppress(OSError, ValueError):
        print(f"faceproof: {plain(message)}", file=sys.stderr)
    sys.exit(code)


@contextlib.contextmanager
def _output_errors() -> Iterator[None]:
    """Standard output that takes no more: a reader that has seen enough (`| head`) ends the run quietly."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as err:
        # Python flushes stdout at exit and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(err, BrokenPipeError):
            sys.exit(1)
        _fail(f"cannot write to standard output ({err.strerror or err}); free space and run it again", 1)


def _version(value: bool) -> None:
    if value:
        print(f"faceproof {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def check(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...", help="Pictures and videos: paths, URLs, or SHARD::MEMBER.", show_default=False
        ),
    ],
    model: ModelOption = None,
    face_detector: FaceDetectorOption = None,
    fpr: FprOption = None,
    alpha: AlphaOption = None,
    stability: StabilityOption = "full",
    metadata: MetadataOption = True,
    min_face: MinFaceOption = None,
    max_pixels: MaxPixelsOption = "64M",
    runtime: RuntimeOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON record a line instead of cards.")] = False,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE", help="Also write an HTML page to file or print.", show_default=False),
    ] = None,
    report_maps: ReportMapsOption = 8,
    near: NearOption = None,
    fps: FpsOption = 2.0,
    scenes: ScenesOption = False,
    resize: ResizeOption = None,
    annotate: Annotated[
        str | None,
        typer.Option("--annotate", metavar="FILE", help="One video: write it again with boxes, verdicts and sound."),
    ] = None,
    timeline: Annotated[
        str | None, typer.Option("--timeline", metavar="FILE", help="One video: write its timeline as SVG.")
    ] = None,
) -> None:
    """Check pictures: one card per face with verdict, probability, threshold, reasons, stability and quality.

    Videos give one verdict for each person that is followed through them. For folders and many pictures use
    `faceproof scan`; for cameras and streams `faceproof live`.
    """
    from faceproof import terminal, terminal_video
    from faceproof.cli_video import Watcher, video_options
    from faceproof.errors import UsageError
    from faceproof.reports import to_json
    from faceproof.video import is_video
    from faceproof.video_records import AnyResult, VideoResult

    def say(result: AnyResult) -> None:
        if json:
            print(to_json(result.to_dict()), flush=True)
        else:
            terminal_video.card(result) if isinstance(result, VideoResult) else terminal.card(result)

    if near is not None and report is None:
        raise UsageError("--near is for a page; give its file with --report")
    watch = Watcher(pictures, video_options(fps, scenes, resize), annotate=annotate, timeline=timeline, json=json)
    options = _options(model, face_detector, fpr, min_face, max_pixels)
    checker = replace(options, alpha=alpha, stability=stability, metadata=metadata, runtime=runtime).checker()
    if report is not None:
        from faceproof.report_pages import check_target, check_to_page

        check_target(report)
        results = check_to_page(
            pictures, checker, report, maps=report_maps, known=_known(near), on_result=say,
            progress=terminal.counted, watch=watch,
        )  # fmt: skip
        if not json:
            terminal.note(f"report: {report}")
    else:
        results = []
        for path in pictures:
            results.append(watch(checker, path) if is_video(path) else checker.check(path))
            say(results[-1])
    watch.write()
    if any(result.status == "error" for result in results):
        raise typer.Exit(1)


def _known(path: str | None) -> Known | None:
    from faceproof import terminal
    from faceproof.near_matches import Known

    if path is None:
        return None
    with terminal.counted("hashes") as step:
        return Known(path, step)


@app.command()
def scan(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, folders, globs, manifests (.csv .tsv .jsonl .txt .parquet), shards (.tar, .parquet), "
            "s3:// and other URLs of these, or - for a list on stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Results: .jsonl, .csv or .parquet; s3://BUCKET/NAME.parquet for parts in a bucket; - for stdout. "
            "With --engine a folder of parts.",
        ),
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--resume", help="Begin anew, or go on from what FILE holds.")
    ] = False,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    cluster: ClusterOption = None,
    unit: UnitOption = 500,
    all_files: AllFilesOption = False,
    quiet: QuietOption = False,
    prevalence: Annotated[
        float | None,
        typer.Option(
            "--prevalence",
            metavar="SHARE",
            help="Share of generated faces to expect, such as 0.0005.",
            show_default=False,
        ),
    ] = None,
    summary: Annotated[
        str | None,
        typer.Option("--summary", metavar="FILE", help="Write what the flags are worth as JSON.", show_default=False),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write an HTML page: the counts, and the most suspicious pictures checked again in full.",
            show_default=False,
        ),
    ] = None,
    report_maps: ReportMapsOption = 8,
    near: NearOption = None,
    model: ModelOption = None,
    face_detector: FaceDetectorOption = None,
    fpr: FprOption = None,
    alpha: AlphaOption = None,
    stability: StabilityOption = "off",
    metadata: MetadataOption = True,
    min_face: MinFaceOption = None,
    max_pixels: MaxPixelsOption = "64M",
    runtime: RuntimeOption = None,
    fps: FpsOption = 2.0,
    scenes: ScenesOption = False,
    resize: ResizeOption = None,
) -> None:
    """Scan folders, globs, manifests or lists into one file of results, one record a picture or video.

    Stop it whenever you like: the same command goes on where it stopped. With --prevalence or --summary it also says
    what a flag is worth: false alarms to expect, how many flags are right, and the prevalence the flags speak for.
    """
    from faceproof import terminal, terminal_prevalence
    from faceproof.cli_video import video_options
    from faceproof.errors import UsageError
    from faceproof.flags import Tally
    from faceproof.inputs import Inputs
    from faceproof.remote import is_url
    from faceproof.report_pages import Flagged, check_target, scan_to_page
    from faceproof.reports import open_results, scan_to_file
    from faceproof.result_parts import open_parts

    if report is not None:
        if out == "-":
            raise UsageError("--report is about a file of results; give one with --out")
        check_target(report)
    elif near is not None:
        raise UsageError("--near is for a page; give its file with --report")
    known = _known(near)
    chosen = Inputs(inputs, all_files=all_files, videos=True, whole_shards=engine is not None)
    options = replace(
        _options(model, face_detector, fpr, min_face, max_pixels),
        alpha=alpha, stability=stability, metadata=metadata, video=video_options(fps, scenes, resize), runtime=runtime,
    )  # fmt: skip
    tally, flagged = Tally(model, fpr, prevalence, summary=summary, results=out), Flagged()

    def seen(record: Mapping[str, Any]) -> None:
        tally.add(record)
        flagged.add(record)

    results: ResultFile | EngineRun
    if engine is not None or cluster is not None:
        from faceproof.cli_engines import Choice, scan_in_parts

        wanted = seen if prevalence is not None or summary is not None or report is not None else None
        how = Choice(engine, cluster, unit, workers)
        try:
            results = scan_in_parts(chosen, out, options, how, overwrite=overwrite, hidden=quiet, on_record=wanted)
        except KeyboardInterrupt:
            _fail(f"stopped; finished parts are in {out}: the same command goes on", 130)
    else:
        with (
            (open_parts if is_url(out) else open_results)(out, overwrite=overwrite, on_record=seen) as results,
            terminal.progress(chosen, hidden=quiet) as bar,
        ):
            before = results.total
            try:
                scan_to_file(chosen, results, options, workers=workers, on_result=bar.checked, on_skip=bar.skipped)
            except KeyboardInterrupt:
                bar.close()
                _fail(f"stopped; {results.total} records are in {out}: the same command goes on", 130)
        if not quiet:
            terminal.summary(results, before, chosen.ignored)
    if prevalence is not None or summary is not None:
        terminal_prevalence.flags(tally.finish(), summary, hidden=quiet)
    if report is not None:
        scan_to_page(flagged, options, out, report, maps=report_maps, known=known, progress=terminal.counted)
        if not quiet:
            terminal.note(f"report: {report}")
    if results.counts["error"]:
        raise typer.Exit(1)


app.add_typer(models, name="models")
app.command()(compare)
app.command()(explain)
app.command()(evaluate)
app.command()(export)
app.command("map")(picture_map)
app.command()(duplicates)


@app.command()
def doctor(json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False) -> None:
    """Say what is installed and which engines there are, and test the whole way from picture to verdict."""
    from faceproof.doctor import examine

    findings = examine()
    if json:
        import json as json_module

        print(json_module.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        from faceproof import terminal

        terminal.findings(findings)
    if any(not finding.good for finding in findings):
        raise typer.Exit(1)


app.command("import")(importing)
app.add_typer(generating, name="generate")
app.command()(live)
app.command()(serve)
app.command()(train)
app.command()(pretrain)
app.command()(calibrate)
app.command()(reference)
app.command()(posts)
app.command()(study)
app.command()(page)


def _options(
    model: str | None, face_detector: str | None, fpr: float | None, min_face: float | None, max_pixels: str
) -> Options:
    from faceproof.faces.quality import Gates
    from faceproof.images import Limits
    from faceproof.scan import Options

    limits = Limits.of_pixels(max_pixels)
    # This process is ours alone, so Pillow's own limit may follow the user's.
    limits.widen_pillow()
    gates = Gates() if min_face is None else Gates(min_side=min_face)
    return Options(model, face_detector, fpr, gates, limits)
