"""`faceproof generate`. As in `cli`, only typer is imported before a command runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from faceproof.generated_records import Job
    from faceproof.generating import Generator, Pace
    from faceproof.prices import Estimate

__all__ = ["generating"]

generating = typer.Typer(
    help="Make faces with generators: pictures, a manifest to train on, and where each comes from.",
    no_args_is_help=True,
)

Photographs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PHOTOGRAPH]...", help="As scan takes them; a manifest's groups are kept.", show_default=False
    ),
]
Out = Annotated[
    str, typer.Option("--out", "-o", metavar="DIR", help="Folder or s3://BUCKET/FOLDER; a run there is gone on with.")
]
Count = Annotated[int, typer.Option("--count", "-n", min=1, max=1_000_000, help="Pictures, without photographs.")]
Most = Annotated[
    int | None, typer.Option("--most", min=1, help="Take the first so many photographs.", show_default="all")
]
PromptText = Annotated[str | None, typer.Option("--prompt", help="One prompt for all pictures.", show_default=False)]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts: one a line, or JSON with template and traits.",
        show_default="portraits of all ages, sexes, skin tones, lights, cameras",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of prompts and pictures.")]
Source = Annotated[
    str | None,
    typer.Option("--source", help="What manifests call the photographs' source.", show_default="their folder"),
]
ValShare = Annotated[float, typer.Option("--val-share", help="Share of groups whose split is val.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
EDIT = (
    "Make this photograph again: the same person, pose, clothes, background, light and framing, "
    "as an ordinary, realistic photograph."
)
RESTYLE = "an ordinary, realistic photograph of a person's face, natural light"


@generating.command()
def openai(
    out: Out,
    photographs: Photographs = None,
    task: Annotated[
        str, typer.Option("--task", help="text, edit or variation.", show_default="edit with photographs, else text")
    ] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="As the server calls it.")] = "gpt-image-2.6-flare",
    count: Count = 20,
    most: Most = None,
    prompt: PromptText = None,
    prompts: Prompts = None,
    seed: Seed = 0,
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT, or auto.")] = "1024x1024",
    quality: Annotated[
        str, typer.Option("--quality", help="low, medium, high, ...; empty for servers without.")
    ] = "medium",
    base_url: Annotated[
        str, typer.Option("--base-url", help="A server that speaks the protocol.")
    ] = "https://api.openai.com/v1",
    key_file: Annotated[
        str | None,
        typer.Option("--key-file", help="File with the key, mode 600.", show_default="the variable OPENAI_API_KEY"),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Another field of the request; repeatable.", show_default=False
        ),
    ] = None,
    send_seed: Annotated[bool, typer.Option("--send-seed", help="Send seeds too: servers of your own.")] = False,
    rate: Annotated[float, typer.Option("--rate", help="Pictures begun a minute; 0: no limit.")] = 5.0,
    parallel: Annotated[int, typer.Option("--parallel", "-j", min=1, max=64, help="Requests at the same time.")] = 4,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for a picture.")] = 180.0,
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, max=50, help="For one picture, when the server fails.")
    ] = 6,
    price: Annotated[
        float | None, typer.Option("--price", help="US dollars a picture.", show_default="the table's")
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Do not begin above so many US dollars.", show_default="no limit")
    ] = None,
    source: Source = None,
    val_share: ValShare = 0.15,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    quiet: Quiet = False,
) -> None:
    """Generate with OpenAI's image API, or any server that speaks its protocol.

    Without photographs: text to image, prompts balanced over age, sex, skin tone, light and camera. With photographs:
    each made again, as a pair of one group. Stop it whenever you like: the same command goes on, and no picture that
    came is paid for twice.
    """
    from faceproof.generating import Pace
    from faceproof.openai_images import OpenAIImages, read_key
    from faceproof.prices import estimate

    task = task or ("edit" if photographs else "text")
    generator = OpenAIImages(
        model, task, size, "" if task == "variation" else quality, base_url, read_key(key_file), timeout,
        more=_fields(fields or []), send_seed=send_seed,
    )  # fmt: skip
    jobs = _jobs(
        generator,
        photographs,
        count,
        most,
        prompt or (EDIT if task == "edit" and not prompts else None),
        prompts,
        seed,
        source,
    )

    def cost(pictures: int) -> Estimate:
        return estimate(
            pictures, model=model, size=size, quality=quality or "auto", sends_picture=task != "text", price=price,
            known=generator.is_openai,
        )  # fmt: skip

    if generator.is_openai and generator.key is None:
        from faceproof.errors import UsageError

        raise UsageError("no key: set OPENAI_API_KEY, or give --key-file FILE (mode 600)")
    _make(
        generator,
        jobs,
        out,
        Pace(rate, parallel, attempts, val_share=val_share),
        cost,
        yes=yes,
        budget=budget,
        quiet=quiet,
    )


@generating.command()
def diffusers(
    out: Out,
    model: Annotated[str, typer.Option("--model", "-m", help="A pipeline's name on the hub, or its folder.")],
    photographs: Photographs = None,
    task: Annotated[
        str, typer.Option("--task", help="text, image or inpaint.", show_default="image with photographs, else text")
    ] = "",
    count: Count = 20,
    most: Most = None,
    prompt: PromptText = None,
    prompts: Prompts = None,
    seed: Seed = 0,
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT, multiples of 8.")] = "512x512",
    steps: Annotated[int, typer.Option("--steps", min=0, help="Denoising steps; 0: the pipeline's own.")] = 0,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="How strongly the prompt counts.", show_default="the pipeline's")
    ] = None,
    strength: Annotated[float, typer.Option("--strength", help="Share of a photograph made anew, 0 to 1.")] = 0.6,
    negative: Annotated[str, typer.Option("--negative", help="What pictures should not show.")] = "",
    mask: Annotated[str, typer.Option("--mask", help="What inpainting makes: face or background.")] = "face",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
    source: Source = None,
    val_share: ValShare = 0.15,
    quiet: Quiet = False,
) -> None:
    """Generate with a diffusers pipeline on this machine: text to image, image to image, inpainting.

    Weights are read from safetensors only. Pictures made from a photograph are of its group.
    """
    from faceproof.errors import UsageError
    from faceproof.extras import EXTRAS, require
    from faceproof.generating import Pace

    for module in EXTRAS["diffusers"]:
        require("diffusers", module)
    from faceproof.diffusers_images import Pipeline

    width, cross, height = size.partition("x")
    if not cross or not width.isdecimal() or not height.isdecimal():
        raise UsageError(f"--size {size!r} is not WIDTHxHEIGHT such as 512x512")
    generator = Pipeline(
        model, task or ("image" if photographs else "text"), int(width), int(height), steps, guidance, strength,
        negative, mask, _device(device), dtype,
    )  # fmt: skip
    asked = prompt or (RESTYLE if photographs and not prompts else None)
    jobs = _jobs(generator, photographs, count, most, asked, prompts, seed, source)
    _make(generator, jobs, out, Pace(val_share=val_share), quiet=quiet)


@generating.command()
def reconstruct(
    photographs: Annotated[
        list[str], typer.Argument(metavar="PHOTOGRAPH...", help="As scan takes them; a manifest's groups are kept.")
    ],
    out: Out,
    model: Annotated[
        str, typer.Option("--model", "-m", help="taef2, or a diffusers autoencoder's name or folder.")
    ] = "taef2",
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="DIR", help="Where TAEF2's weights lie.", show_default=False),
    ] = None,
    subfolder: Annotated[
        str | None, typer.Option("--subfolder", help="Of a diffusers model: vae in a pipeline.", show_default=False)
    ] = None,
    largest: Annotated[int, typer.Option("--largest", help="Longest side in pixels; larger ones are shrunk.")] = 512,
    most: Most = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, mps or auto.")] = "auto",
    source: Source = None,
    val_share: ValShare = 0.15,
    quiet: Quiet = False,
) -> None:
    """Send photographs through a generator's autoencoder and back: pairs aligned pixel by pixel.

    Both go into the manifest, of one group, size and codec: what differs is the decoder's trace alone.
    """
    from faceproof.extras import require
    from faceproof.generating import Pace

    require("train", "torch")
    from faceproof.reconstruction import Autoencoder

    generator = Autoencoder(model, weights=weights, subfolder=subfolder, largest=largest, device=_device(device))
    jobs = _jobs(generator, photographs, 0, most, None, None, 0, source)
    _make(generator, jobs, out, Pace(val_share=val_share), quiet=quiet)


def _device(name: str) -> str:
    """Read --device."""
    if name != "auto":
        return name
    from faceproof.extras import require

    torch = require("train", "torch")
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _jobs(
    generator: Generator, given: list[str] | None, count: int, most: int | None, prompt: str | None,
    prompts: str | None, seed: int, source: str | None,
) -> list[Job]:  # fmt: skip
    from faceproof.errors import UsageError
    from faceproof.generate_sources import photographs as found_in
    from faceproof.generated_records import jobs_of
    from faceproof.prompts import PORTRAITS, Prompt, PromptSet, read_prompts, seed_of

    if prompt is not None and prompts is not None:
        raise UsageError("give either --prompt or --prompts")
    if bool(given) == (generator.task == "text"):
        raise UsageError(
            f"the task {generator.task} needs photographs"
            if not given
            else "the task text takes no photographs; give another --task"
        )
    found = found_in(given, most=most, source=source) if given else None
    number = count if found is None else len(found)
    if generator.task in ("variation", "reconstruct"):
        return jobs_of([Prompt("", {}, seed_of(seed, place)) for place in range(number)], found, generator.settings)
    if prompt is not None:
        chosen = PromptSet("prompt", "{prompt}", {"prompt": {"": prompt}})
    else:
        chosen = PORTRAITS if prompts is None else read_prompts(prompts)
    drawn = chosen.draw(number, seed)
    if prompt is not None:
        drawn = [Prompt(each.text, {}, each.seed) for each in drawn]
    return jobs_of(drawn, found, generator.settings)


def _make(
    generator: Generator, jobs: Sequence[Job], out: str, pace: Pace, cost: Any = None, *, yes: bool = False,
    budget: float | None = None, quiet: bool = False,
) -> None:  # fmt: skip
    """Show the plan, ask, make the pictures, say what came of it."""
    import signal

    from faceproof import terminal_generate
    from faceproof.generated_store import open_store
    from faceproof.generating import Run

    with open_store(out) as store:
        run = Run(generator, jobs, store, pace)
        expected = None if cost is None else cost(run.unpaid)
        if not terminal_generate.confirmed(terminal_generate.plan(run, expected), expected, yes=yes, budget=budget):
            raise typer.Exit(1)
        signal.signal(signal.SIGINT, terminal_generate.pressed)
        try:
            with terminal_generate.making(run, hidden=quiet) as show:
                for record in run:
                    show(record)
        except KeyboardInterrupt:
            terminal_generate.ended(run, out)
            raise typer.Exit(130) from None
        if terminal_generate.ended(run, out):
            raise typer.Exit(1)


def _fields(texts: list[str]) -> dict[str, Any]:
    """Read FIELD=VALUE; values as in JSON, plain words as text."""
    import json

    from faceproof.errors import UsageError

    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"--set {text!r} is not FIELD=VALUE, such as background=opaque")
        try:
            found[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[name.strip()] = value
    return found
