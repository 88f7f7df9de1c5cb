"""`faceproof serve`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[
        int, typer.Option("--workers", "-j", min=0, max=256, help="Processes.", show_default="one per core")
    ] = 0,
    waiting: Annotated[
        int, typer.Option("--queue", min=1, max=10000, help="Requests that may wait; more are told to come again.")
    ] = 32,
    max_picture: Annotated[
        int, typer.Option("--max-picture", metavar="MIB", min=1, max=256, help="Largest picture, in MiB.")
    ] = 20,
    max_video: Annotated[
        int, typer.Option("--max-video", metavar="MIB", min=1, max=1024, help="Largest video, in MiB.")
    ] = 100,
    max_pixels: Annotated[
        str, typer.Option("--max-pixels", help="Refuse larger pictures before decoding them; 50M = 50 million.")
    ] = "50M",
    urls: Annotated[bool, typer.Option("--urls", help="Fetch pictures from public web addresses when asked.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Name the server goes by, besides localhost; * for any."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file", metavar="FILE", help="File with the token that requests must carry.",
            show_default="FACEPROOF_TOKEN, or none",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", metavar="ADDRESS", help="Believe X-Forwarded-* headers of a reverse proxy there."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Shipped model's name, or a model folder.", show_default="the default model"
        ),
    ] = None,
    fpr: Annotated[
        float | None,
        typer.Option(
            "--fpr", help="Share of photographs that may be called generated.", show_default="the model's, 0.01"
        ),
    ] = None,
) -> None:  # fmt: skip
    """Serve the web app and its JSON API. No file is kept, and nothing is asked of anyone else.

    Open the printed address in a browser; the API is described at /api/v1/openapi.json.
    """
    import sys
    from dataclasses import replace

    from faceproof.errors import plain
    from faceproof.extras import EXTRAS, require
    from faceproof.images import Limits
    from faceproof.scan import Options

    for module in EXTRAS["serve"]:
        require("serve", module)
    from faceproof.web.running import run
    from faceproof.web.settings import MEBIBYTE, Settings, read_token

    limits = replace(Limits.of_pixels(max_pixels), max_bytes=max_picture * MEBIBYTE)
    settings = Settings(
        options=Options(model, fpr=fpr, limits=limits), workers=workers, waiting=waiting,
        most_video=max(max_video, max_picture) * MEBIBYTE,
        most_held=max(256, 2 * max_video, 2 * max_picture) * MEBIBYTE, urls=urls,
        hosts=tuple(name.lower() for name in allow_host or ()), token=read_token(token_file),
    )  # fmt: skip
    if settings.token is None and host not in ("127.0.0.1", "::1", "localhost"):
        warning = "anyone who reaches this address may use it: give a token with --token-file or FACEPROOF_TOKEN"
        print(f"faceproof: {warning}", file=sys.stderr)
    if not run(settings, host, port, say=lambda url: print(plain(url), flush=True), proxy=proxy):
        raise typer.Exit(1)
