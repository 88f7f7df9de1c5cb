"""Pictures from diffusers pipelines, by the hub's name or from a folder. Needs the extra `diffusers`.

Weights are read from safetensors only, and no code of a model's own is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from faceproof.errors import ModelError, PictureError, UsageError, unknown_name
from faceproof.extras import opencv, require
from faceproof.faces.detection import FaceDetector, face_detector
from faceproof.generated_records import Answer, Job
from faceproof.generating import encoded, fitted

__all__ = ["MASKS", "TASKS", "Pipeline"]

RGB = npt.NDArray[np.uint8]
TASKS = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
MASKS = ("face", "background")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass
class Pipeline:
    """A generator (`generating.Generator`) around a diffusers pipeline.

    Attributes:
        model: name on the hub, or a folder.
        task: one of `TASKS`.
        width, height: of the pictures, multiples of 8.
        steps: denoising steps; 0 takes the pipeline's own number.
        guidance: how strongly the prompt counts; None takes the pipeline's own.
        strength: how much of a photograph is made anew, 0 to 1 (image, inpaint).
        negative: what the picture should not show.
        mask: which part inpainting makes: "face" (an oval from brows to chin) or "background" (all but that).
        device, dtype: of torch.

    Raises:
        UsageError: when made: an unknown task, impossible sizes.
        ModelError: when made: the pipeline cannot be loaded.
        MissingExtraError: diffusers is not installed.
    """

    model: str
    task: str = "text"
    width: int = 512
    height: int = 512
    steps: int = 0
    guidance: float | None = None
    strength: float = 0.6
    negative: str = ""
    mask: str = "face"
    device: str = "cpu"
    dtype: str = "float32"
    finder: FaceDetector | None = field(default=None, repr=False)
    server: str = field(default="", init=False)
    parallel: bool = field(default=False, init=False)
    licence: str = field(default="as the model's licence says", init=False)

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("task", self.task, TASKS),
            ("mask", self.mask, MASKS),
            ("dtype", self.dtype, DTYPES),
        ):
            if given not in known:
                raise unknown_name(kind, given, list(known))
        if not all(16 <= side <= 8192 and side % 8 == 0 for side in (self.width, self.height)):
            raise UsageError(f"the size {self.width}x{self.height} must be multiples of 8 within 16 to 8192")
        if not 0 < self.strength <= 1 or self.steps < 0:
            raise UsageError(f"--strength {self.strength} must lie in 0..1 (not 0), --steps {self.steps} not below 0")
        self._pipeline = self._loaded()
        self._takes = set(inspect.signature(self._pipeline.__call__).parameters)

    def _loaded(self) -> Any:
        diffusers = require("diffusers")
        try:
            pipeline = getattr(diffusers, TASKS[self.task]).from_pretrained(
                self.model, use_safetensors=True, trust_remote_code=False, torch_dtype=getattr(torch, self.dtype),
                local_files_only=Path(self.model).is_dir(),
            ).to(self.device)  # fmt: skip
        except Exception as err:  # OSError, ValueError, the hub's, safetensors', torch's own
            raise ModelError(
                f"{self.model} cannot be loaded for the task {self.task} ({type(err).__name__}: {str(err)[:200]}); "
                "give a diffusers pipeline with safetensors"
            ) from err
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @property
    def name(self) -> str:
        """The model's, or its folder's."""
        return Path(self.model).name if Path(self.model).is_dir() else self.model

    @property
    def source(self) -> str:
        """What manifests name as source of pictures from prompts."""
        return f"diffusers {self.name}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides a picture besides prompt, seed and photograph."""
        kept = ("task", "model", "width", "height", "steps", "guidance", "negative", "dtype")
        more = {"image": ("strength",), "inpaint": ("strength", "mask")}.get(self.task, ())
        return {"pipeline": type(self._pipeline).__name__, **{name: getattr(self, name) for name in (*kept, *more)}}

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the libraries at work."""
        return {"torch": str(torch.__version__), "diffusers": str(require("diffusers").__version__)}

    def fitted(self, pixels: RGB) -> RGB:
        """Cut a photograph to the size's shape, as large as goes around its middle, and scale it to the size."""
        return fitted(pixels, self.width, self.height)

    def make(self, job: Job, photograph: RGB | None) -> Answer:
        """Make one picture; the same job gives the same picture on the same machine."""
        asked: dict[str, Any] = {
            "prompt": job.prompt.text, "width": self.width, "height": self.height,
            "generator": torch.Generator("cpu").manual_seed(job.prompt.seed), "output_type": "pil",
        }  # fmt: skip
        asked |= {"num_inference_steps": self.steps} if self.steps else {}
        asked |= {"guidance_scale": self.guidance} if self.guidance is not None else {}
        asked |= {"negative_prompt": self.negative} if self.negative else {}
        if self.task != "text":
            if photograph is None:
                raise UsageError(f"the task {self.task} needs photographs; give some")
            asked |= {"image": Image.fromarray(photograph), "strength": self.strength}
        if self.task == "inpaint" and photograph is not None:
            asked["mask_image"] = Image.fromarray(self._mask(photograph))
        try:
            with torch.inference_mode():
                made = self._pipeline(**{name: value for name, value in asked.items() if name in self._takes})
        except torch.OutOfMemoryError as err:
            raise ModelError(f"not enough memory on {self.device}; take a smaller --size or another --dtype") from err
        except Exception as err:  # pipelines raise of every kind on settings they do not take
            raise ModelError(
                f"{self.name} fails ({type(err).__name__}: {' '.join(str(err).split())[:200]}); try other settings, "
                "such as its own --size"
            ) from err
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            return Answer(None, "the pipeline's safety checker blacked it out")
        return Answer(encoded(np.asarray(made.images[0].convert("RGB"))))

    def _mask(self, pixels: RGB) -> npt.NDArray[np.uint8]:
        """Return what is to be made anew, 255: (H, W) uint8."""
        if self.finder is None:
            self.finder = face_detector(None)
        faces = self.finder.detect(pixels)
        if not faces:
            raise PictureError("no face found to mask; give photographs with a face, or the task image")
        face = max(faces, key=lambda each: (each.box[2] - each.box[0]) * (each.box[3] - each.box[1]))
        return face_mask(pixels.shape[:2], np.asarray(face.landmarks), background=self.mask == "background")


def face_mask(
    shape: tuple[int, ...], landmarks: npt.NDArray[Any], *, background: bool = False
) -> npt.NDArray[np.uint8]:
    """Return an oval over eyes, nose and mouth: (H, W) uint8, 255 inside (outside for `background`), 0 elsewhere.

    Args:
        shape: (H, W).
        landmarks: (5, 2) x, y pixels.
        background: the other way round.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    across, down = landmarks[1] - landmarks[0], mouth - eyes
    reach = max(float(np.hypot(*across)), float(np.hypot(*down)))  # a turned head's eyes are near each other
    middle = eyes + 0.45 * down
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    mask = np.zeros(shape, np.uint8)
    centre, axes = (round(float(v)) for v in middle), (round(1.05 * reach), round(1.35 * reach))
    opencv().ellipse(mask, tuple(centre), axes, angle, 0, 360, 255, -1)
    return 255 - mask if background else mask
