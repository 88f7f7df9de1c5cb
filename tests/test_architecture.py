"""The shape of the house: ranks, no cycles, what importing may load, and how fast it starts."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import faceproof

ROOT = Path(faceproof.__file__).parent

# A module imports lower ranks only, or a sibling of its own rank without a cycle (docs/architecture.md).
RANKS = {
    "faceproof": 9,
    "faceproof.__main__": 10,
    "faceproof._version": 0,
    "faceproof.errors": 0,
    "faceproof.extras": 0,
    "faceproof.records": 0,
    "faceproof.clusters": 1,
    "faceproof.conformal": 1,
    "faceproof.curves": 1,
    "faceproof.exif": 1,
    "faceproof.hashing": 1,
    "faceproof.images": 1,
    "faceproof.inputs": 1,
    "faceproof.journals": 1,
    "faceproof.layouts": 1,
    "faceproof.map_columns": 1,
    "faceproof.metadata": 1,
    "faceproof.metadata.camera": 1,
    "faceproof.metadata.containers": 1,
    "faceproof.metadata.content_credentials": 1,
    "faceproof.metadata.evidence": 1,
    "faceproof.metadata.generators": 1,
    "faceproof.metadata.reading": 1,
    "faceproof.metadata.source_types": 1,
    "faceproof.metadata.tags": 1,
    "faceproof.metadata.xmp": 1,
    "faceproof.metrics": 1,
    "faceproof.augment": 1,
    "faceproof.neighbours": 1,
    "faceproof.pairs": 1,
    "faceproof.chains": 1,
    "faceproof.perturb": 1,
    "faceproof.prevalence": 1,
    "faceproof.prices": 1,
    "faceproof.prompts": 1,
    "faceproof.bursts": 1,
    "faceproof.campaigns": 1,
    "faceproof.comparing": 1,
    "faceproof.accounts": 1,
    "faceproof.communities": 1,
    "faceproof.copies": 1,
    "faceproof.encoders": 1,
    "faceproof.keywords": 1,
    "faceproof.language": 1,
    "faceproof.pseudonyms": 1,
    "faceproof.rows": 1,
    "faceproof.texts": 1,
    "faceproof.remote": 1,
    "faceproof.resampling": 1,
    "faceproof.fetching": 1,
    "faceproof.servers": 1,
    "faceproof.shards": 1,
    "faceproof.tables": 1,
    "faceproof.tensor_files": 1,
    "faceproof.thumbnails": 1,
    "faceproof.camera": 1,
    "faceproof.video": 1,
    "faceproof.video_frames": 1,
    "faceproof.video_records": 1,
    "faceproof.video_write": 1,
    "faceproof.web_runtime": 1,
    "faceproof.workers": 1,
    "faceproof.part_folders": 1,
    "faceproof.units": 1,
    "faceproof.faces": 2,
    "faceproof.faces.alignment": 2,
    "faceproof.faces.detection": 2,
    "faceproof.faces.quality": 2,
    "faceproof.tracking": 2,
    "faceproof.video_draw": 2,
    "faceproof.features": 3,
    "faceproof.features.backbone": 3,
    "faceproof.features.ela": 3,
    "faceproof.features.taef2": 3,
    "faceproof.manipulation": 3,
    "faceproof.mixture": 3,
    "faceproof.ranking": 3,
    "faceproof.detectors": 4,
    "faceproof.detectors.alignment": 4,
    "faceproof.detectors.anomaly": 4,
    "faceproof.detectors.base": 4,
    "faceproof.detectors.card": 4,
    "faceproof.detectors.crops": 4,
    "faceproof.detectors.fastest": 4,
    "faceproof.detectors.folders": 4,
    "faceproof.detectors.onnx": 4,
    "faceproof.detectors.readme": 4,
    "faceproof.detectors.store": 4,
    "faceproof.training_crops": 5,
    "faceproof.calibration": 5,
    "faceproof.explain": 5,
    "faceproof.explain.deletion": 5,
    "faceproof.explain.gradcam": 5,
    "faceproof.explain.maps": 5,
    "faceproof.explain.occlusion": 5,
    "faceproof.explain.overlay": 5,
    "faceproof.explain.residuals": 5,
    "faceproof.explain.spectrum": 5,
    "faceproof.explain.stability": 5,
    "faceproof.fusion": 5,
    "faceproof.flags": 5,
    "faceproof.verdict": 5,
    "faceproof.pipeline": 6,
    "faceproof.fusion_fitting": 7,
    "faceproof.diffusers_images": 7,
    "faceproof.reconstruction": 7,
    "faceproof.generate_sources": 7,
    "faceproof.generated_records": 7,
    "faceproof.generated_store": 7,
    "faceproof.generating": 7,
    "faceproof.openai_images": 7,
    "faceproof.scan": 7,
    "faceproof.datasets": 7,
    "faceproof.doctor": 7,
    "faceproof.embeddings": 7,
    "faceproof.duplicates": 7,
    "faceproof.anomaly_fitting": 7,
    "faceproof.anomaly_packaging": 7,
    "faceproof.explain_run": 7,
    "faceproof.explanation": 7,
    "faceproof.exif_data": 7,
    "faceproof.exif_import": 7,
    "faceproof.importing": 7,
    "faceproof.importing.examining": 7,
    "faceproof.importing.folders": 7,
    "faceproof.importing.joining": 7,
    "faceproof.importing.lists": 7,
    "faceproof.importing.probes": 7,
    "faceproof.importing.results": 7,
    "faceproof.importing.rows": 7,
    "faceproof.importing.run": 7,
    "faceproof.importing.sharing": 7,
    "faceproof.importing.table": 7,
    "faceproof.importing.tabular": 7,
    "faceproof.importing.tree": 7,
    "faceproof.importing.writing": 7,
    "faceproof.pretrain_recipes": 7,
    "faceproof.pretraining": 7,
    "faceproof.pretraining_data": 7,
    "faceproof.audits": 7,
    "faceproof.post_records": 7,
    "faceproof.post_store": 7,
    "faceproof.posts": 7,
    "faceproof.study": 7,
    "faceproof.alignment_weight": 7,
    "faceproof.contenders": 7,
    "faceproof.evaluation": 7,
    "faceproof.export": 7,
    "faceproof.export_data": 7,
    "faceproof.exporting": 7,
    "faceproof.parity": 7,
    "faceproof.quantizing": 7,
    "faceproof.converting_torch": 7,
    "faceproof.torch_graph": 7,
    "faceproof.onnx_graphs": 5,
    "faceproof.runtimes": 3,
    "faceproof.checkpoints": 7,
    "faceproof.landmarks": 7,
    "faceproof.model_exchange": 7,
    "faceproof.packaging": 7,
    "faceproof.runs": 7,
    "faceproof.recipes": 7,
    "faceproof.figures": 7,
    "faceproof.leftout": 7,
    "faceproof.score_cache": 7,
    "faceproof.scoring": 7,
    "faceproof.splits": 7,
    "faceproof.heldout": 7,
    "faceproof.recalibration": 7,
    "faceproof.teachers": 7,
    "faceproof.training": 7,
    "faceproof.video_annotate": 7,
    "faceproof.video_check": 7,
    "faceproof.live": 7,
    "faceproof.live_window": 8,
    "faceproof.training_log": 7,
    "faceproof.duplicates_html": 8,
    "faceproof.evaluation_html": 8,
    "faceproof.evaluation_report": 8,
    "faceproof.evaluation_run": 8,
    "faceproof.explanation_files": 8,
    "faceproof.explanation_html": 8,
    "faceproof.map_html": 8,
    "faceproof.picture_map": 8,
    "faceproof.terminal_map": 8,
    "faceproof.hash_files": 8,
    "faceproof.near_matches": 8,
    "faceproof.offline_config": 8,
    "faceproof.offline_page": 8,
    "faceproof.plots": 8,
    "faceproof.terminal_duplicates": 8,
    "faceproof.import_report": 8,
    "faceproof.terminal_import": 8,
    "faceproof.terminal_export": 8,
    "faceproof.terminal_evaluation": 8,
    "faceproof.terminal_generate": 8,
    "faceproof.terminal_prevalence": 8,
    "faceproof.cli_evaluate": 9,
    "faceproof.cli_explain": 9,
    "faceproof.cli_export": 9,
    "faceproof.report_html": 8,
    "faceproof.report_video": 8,
    "faceproof.report_pages": 8,
    "faceproof.report_words": 8,
    "faceproof.html_parts": 8,
    "faceproof.posts_report": 8,
    "faceproof.study_report": 8,
    "faceproof.study_run": 8,
    "faceproof.terminal_study": 8,
    "faceproof.terminal_posts": 8,
    "faceproof.engine_local": 8,
    "faceproof.engine_ray": 8,
    "faceproof.engine_run": 8,
    "faceproof.engines": 8,
    "faceproof.reports": 8,
    "faceproof.result_parts": 8,
    "faceproof.terminal": 8,
    "faceproof.terminal_training": 8,
    "faceproof.terminal_video": 8,
    "faceproof.timeline": 8,
    "faceproof.side_by_side": 7,
    "faceproof.web": 9,
    "faceproof.web.app": 9,
    "faceproof.web.generation": 9,
    "faceproof.web.guard": 9,
    "faceproof.web.jobs": 9,
    "faceproof.web.measures": 9,
    "faceproof.web.openapi": 9,
    "faceproof.web.pool": 9,
    "faceproof.web.problems": 9,
    "faceproof.web.public_urls": 9,
    "faceproof.web.running": 9,
    "faceproof.web.settings": 9,
    "faceproof.web.uploads": 9,
    "faceproof.web.verbs": 9,
    "faceproof.cli": 9,
    "faceproof.cli_compare": 9,
    "faceproof.cli_serve": 9,
    "faceproof.cli_calibrate": 9,
    "faceproof.cli_duplicates": 9,
    "faceproof.cli_engines": 9,
    "faceproof.cli_reference": 9,
    "faceproof.cli_generate": 9,
    "faceproof.cli_import": 9,
    "faceproof.cli_map": 9,
    "faceproof.cli_models": 9,
    "faceproof.cli_options": 9,
    "faceproof.cli_posts": 9,
    "faceproof.cli_study": 9,
    "faceproof.cli_live": 9,
    "faceproof.cli_page": 9,
    "faceproof.cli_video": 9,
    "faceproof.cli_pretrain": 9,
    "faceproof.cli_train": 9,
}
TORCH_HOMES = {
    "faceproof.explain.gradcam",
    "faceproof.explain_run",
    "faceproof.pretraining",
    "faceproof.ranking",
    "faceproof.diffusers_images",
    "faceproof.features.backbone",
    "faceproof.features.taef2",
    "faceproof.reconstruction",
    "faceproof.checkpoints",
    "faceproof.teachers",
    "faceproof.training",
    "faceproof.export",
    "faceproof.converting_torch",
    "faceproof.exporting",
    "faceproof.torch_graph",
    "faceproof.packaging",
    "faceproof.runs",
}
HEAVY = {"torch", "timm", "cv2", "onnxruntime", "PIL", "pyarrow", "sklearn", "skimage", "scipy", "matplotlib", "pandas"}


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("faceproof", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


def _imports(path: Path, *, top_only: bool = False) -> set[str]:
    """Every absolute import in a file, lazy ones included; `from a import b` counts a.b if it is a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) or {node.module}
    return found


OWN = {name: {i for i in _imports(path) if i in MODULES} for name, path in MODULES.items()}


def test_every_module_has_a_rank_and_every_rank_a_module() -> None:
    assert set(MODULES) == set(RANKS)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"faceproof"}))
def test_imports_go_down(name: str) -> None:
    for other in OWN[name]:
        assert RANKS[other] <= RANKS[name], f"{name} (rank {RANKS[name]}) imports {other} (rank {RANKS[other]})"
        assert other != "faceproof", f"{name} imports the package root"


def test_no_cycles() -> None:
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in OWN[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_torch_stays_at_home() -> None:
    for name, path in MODULES.items():
        roots = {i.split(".")[0] for i in _imports(path)}
        assert name in TORCH_HOMES or not roots & {"torch", "timm"}, name
    for name, imports in OWN.items():
        # Doors open on demand: test_import_loads_little holds what they load before that.
        assert name in TORCH_HOMES or RANKS[name] == 9 or not imports & TORCH_HOMES, f"{name} drags torch in"


def test_no_pickle_no_shell_no_eval() -> None:
    for name, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        roots = {i.split(".")[0] for i in _imports(path)}
        assert not roots & {"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle", "subprocess"}, name
        calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert not calls & {"eval", "exec", "os.system", "os.popen", "torch.save"}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), name


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {line.split(".")[0] for line in done.stdout.splitlines()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = _loaded_by("import faceproof")
    assert not loaded & (HEAVY | {"numpy", "typer", "rich"}), loaded & HEAVY


def test_importing_the_command_line_loads_typer_only() -> None:
    loaded = _loaded_by("import faceproof.cli")
    assert not loaded & (HEAVY | {"numpy"}), loaded & HEAVY


def test_checking_a_picture_never_loads_torch() -> None:
    statement = (
        "from faceproof import FaceChecker; import numpy; FaceChecker().check(numpy.zeros((64, 64, 3), numpy.uint8))"
    )
    never = {"torch", "timm", "pyarrow", "sklearn", "scipy", "pandas", "matplotlib", "fsspec", "s3fs", "botocore"}
    assert not _loaded_by(statement) & never


def test_importing_has_no_effects() -> None:
    code = (
        "import os, signal, warnings, logging; before = (dict(os.environ), list(warnings.filters), "
        "signal.getsignal(signal.SIGINT), list(logging.root.handlers)); import faceproof, faceproof.reports, "
        "faceproof.cli, faceproof.terminal; after = (dict(os.environ), "
        "[f for f in warnings.filters if f in before[1]], "
        "signal.getsignal(signal.SIGINT), list(logging.root.handlers)); print(before == after)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_import_time() -> None:
    """A bound that only a heavy import at the top can break; speed is measured in benchmarks/."""

    def best(code: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert best("import faceproof") < best("import numpy, onnxruntime")


def test_exported_members() -> None:
    assert len(set(faceproof.__all__)) == len(faceproof.__all__)
    for name in faceproof.__all__:
        assert getattr(faceproof, name) is not None
    assert set(faceproof._HOME) | {"__version__"} == set(faceproof.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = faceproof.nothing


def test_error_tree_is_drawn_and_exported() -> None:
    from faceproof import errors

    tree = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.FaceproofError)}
    assert errors.__doc__
    for name in tree:
        assert name in errors.__doc__
        assert name in faceproof.__all__
