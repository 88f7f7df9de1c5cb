"""`faceproof models`, `models push`, `models pull`. As in `cli`, only typer is imported before a command runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

__all__ = ["models"]


class _Shows(TyperGroup):
    """`models`, `models NAME` and `models --json` mean `models show ...`; push and pull are names of their own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where it is left out."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return list(super().parse_args(ctx, args))


models = typer.Typer(
    cls=_Shows,
    help="List the models, show one's card (models NAME), send and fetch them: Hugging Face hub, buckets, folders.",
)


@models.command()
def show(
    name: Annotated[
        str | None, typer.Argument(help="A shipped model or a model folder; without it, the list.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The whole card as JSON.")] = False,
) -> None:
    """List the shipped models, or show one model's card: data, licences, metrics, thresholds, limits."""
    from faceproof.detectors.card import read_card
    from faceproof.detectors.store import DEFAULT_MODEL, cards, model_folder

    shown = cards() if name is None else [read_card(model_folder(name))]
    if json:
        import json as json_module

        raw = [dict(card.raw) for card in shown]
        print(json_module.dumps(raw if name is None else raw[0], indent=1, ensure_ascii=False))
        return
    from faceproof import terminal

    if name is None:
        terminal.models(shown, DEFAULT_MODEL)
    else:
        terminal.model(shown[0])


@models.command()
def push(
    model: Annotated[str, typer.Argument(help="A shipped model's name, or a model folder.")],
    target: Annotated[str, typer.Argument(help="hf://OWNER/NAME, s3://BUCKET/FOLDER, or a folder.")],
    public: Annotated[
        bool, typer.Option("--public", help="A new repository on the hub is for everyone to see.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model in a bucket or folder.")] = False,
) -> None:
    """Send a model with a README made from its card, and the hashes of all files.

    The hub asks for a token: HF_TOKEN, or what `hf auth login` has kept. Repositories are made private.
    """
    from faceproof import terminal
    from faceproof.model_exchange import push as send

    sent = send(model, target, public=public, overwrite=overwrite)
    at = f" at {sent.revision[:12]}" if sent.revision else ""
    terminal.note(f"sent {sent.card.identity} to {sent.where}{at}: {', '.join(sorted(sent.files))}")


@models.command()
def pull(
    source: Annotated[str, typer.Argument(help="hf://OWNER/NAME[@REVISION], s3://BUCKET/FOLDER, or a folder.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="DIR", help="The model folder to be.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older model there.")] = False,
) -> None:
    """Fetch a model, check its hashes, and put it into a folder that check and scan take with --model."""
    from faceproof import terminal
    from faceproof.model_exchange import pull as fetch

    found = fetch(
        source, out, overwrite=overwrite, progress=lambda name, size: terminal.note(f"{name}: {size / 1024:,.0f} KiB")
    )
    at = f", revision {found.revision}" if found.revision else ""
    terminal.note(f"{found.card.identity} is in {found.where}{at}; try: faceproof check --model {found.where} PICTURE")
    if not found.summed:
        terminal.note("there was no SHA256SUMS: only what the card itself has hashes of was checked")
