"""From a plan to a folder: tables, drawings and the page."""

from __future__ import annotations

from collections.abc import Callable

from faceproof import evaluation_html, plots
from faceproof.evaluation_run import Outcome, Plan, evaluate
from faceproof.tables import write_atomically

__all__ = ["evaluate_to_folder"]


def evaluate_to_folder(
    plan: Plan, *, plots_wanted: bool = True, progress: Callable[[int, int, str], None] = lambda done, total, text: None
) -> Outcome:
    """Carry out a plan; write tables, SVG and PNG drawings and evaluation.html into `plan.out`.

    Args:
        plan: what to do.
        plots_wanted: whether to draw (needs the extra `evaluate`).
        progress: called with what is done, what is to do, and a word for it.

    Raises:
        MissingExtraError: drawings are wanted and matplotlib is absent; said before anything is measured.
        UsageError, ModelError, OutputError: see `evaluation_run.evaluate`.
    """
    if plots_wanted:
        plots.needs()
    outcome = evaluate(plan, progress)
    drawings = plots.save(plots.draw(outcome), plan.out) if plots_wanted else {}
    write_atomically(plan.out / "evaluation.html", evaluation_html.page(outcome, drawings))
    return outcome
