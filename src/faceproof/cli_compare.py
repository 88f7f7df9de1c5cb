"""`faceproof compare`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import FprOption, MetadataOption, ModelOption, StabilityOption

__all__ = ["compare"]


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Path or http(s) URL.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The picture to hold against it.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="The comparison as JSON instead of text.")] = False,
    model: ModelOption = None,
    fpr: FprOption = None,
    stability: StabilityOption = "off",
    metadata: MetadataOption = True,
) -> None:
    """Check two pictures, and say whether one is a copy of the other, such as an original and an edited version."""
    from faceproof import terminal
    from faceproof.errors import PictureError
    from faceproof.images import printable
    from faceproof.pipeline import FaceChecker
    from faceproof.side_by_side import compare_loaded

    checker, loaded = FaceChecker(model, fpr=fpr, stability=stability, metadata=metadata), []
    for path in (first, second):
        try:
            loaded.append(checker.load(path))
        except PictureError as err:  # of two, which one
            raise PictureError(f"{printable(path)}: {err}") from err
    found = compare_loaded(loaded[0], loaded[1], checker)
    if json:
        import json as json_module

        print(json_module.dumps(found.to_dict(), ensure_ascii=False, separators=(",", ":")))
    else:
        terminal.comparison(found)
