"""`faceproof serve`. As in `cli`, only typer is imported before the command runs."""

from __future__ import annotations

from typing import Annotated

import typer

from faceproof.cli_options import FprOption, ModelOption

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
    generate: Annotated[
        bool, typer.Option("--generate", help="Make pictures from prompts with an image API, which costs money.")
    ] = False,
    generate_model: Annotated[
        str, typer.Option("--generate-model", metavar="NAME", help="As the image API calls it.")
    ] = "gpt-image-2.6-flare",
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Image API to ask.", show_default="OpenAI's"),
    ] = None,
    key_file: Annotated[
        str | None,
        typer.Option(
            "--key-file", metavar="FILE", help="File with the image API's key, mode 600.",
            show_default="the variable OPENAI_API_KEY",
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option("--budget", metavar="DOLLARS", help="What --generate may spend until the server stops.")
    ] = 5.0,
    price: Annotated[
        float | None,
        typer.Option(
            "--price", metavar="DOLLARS", help="What one picture costs, at most.", show_default="the table's"
        ),
    ] = None,
    model: ModelOption = None,
    fpr: FprOption = None,
) -> None:  # fmt: skip
    """Serve the web app and its JSON API. No file is kept, and nothing is asked of anyone else, unless told to.

    Open the printed address in a browser; the API is described at /api/v1/openapi.json.
    """
    import sys
    from dataclasses import replace

    from faceproof.errors import UsageError, plain
    from faceproof.extras import EXTRAS, require
    from faceproof.images import Limits
    from faceproof.openai_images import BASE_URL, read_key
    from faceproof.scan import Options

    for module in EXTRAS["serve"]:
        require("serve", module)
    from faceproof.web.running import run
    from faceproof.web.settings import MEBIBYTE, Generation, Settings, read_token

    limits = replace(Limits.of_pixels(max_pixels), max_bytes=max_picture * MEBIBYTE)
    generation = None
    if generate:
        generation = Generation(generate_model, base_url or BASE_URL, read_key(key_file), budget, price)
    elif base_url is not None or key_file is not None or price is not None:
        raise UsageError("--base-url, --key-file and --price are about making pictures: add --generate, or leave them")
    settings = Settings(
        options=Options(model, fpr=fpr, limits=limits), workers=workers, waiting=waiting,
        most_video=max(max_video, max_picture) * MEBIBYTE,
        most_held=max(256, 2 * max_video, 2 * max_picture) * MEBIBYTE, urls=urls,
        hosts=tuple(name.lower() for name in allow_host or ()), token=read_token(token_file), generation=generation,
    )  # fmt: skip
    if settings.token is None and host not in ("127.0.0.1", "::1", "localhost"):
        if generate:
            raise UsageError("--generate spends money for anyone who reaches this address: give a token, or no --host")
        warning = "anyone who reaches this address may use it: give a token with --token-file or FACEPROOF_TOKEN"
        print(f"faceproof: {warning}", file=sys.stderr)
    if not run(settings, host, port, say=lambda url: print(plain(url), flush=True), proxy=proxy):
        raise typer.Exit(1)
