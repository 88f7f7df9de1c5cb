"""Photographs sent through a generator's autoencoder and back: pairs aligned pixel by pixel. Needs torch.

What differs between the two is the decoder's trace alone ("aligned datasets": Rajan et al., 2025, arXiv 2410.11835).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from faceproof.errors import ModelError, PictureError, UsageError
from faceproof.extras import opencv, require
from faceproof.features.taef2 import STEP, read_taef2
from faceproof.generated_records import Answer, Job
from faceproof.generating import encoded

__all__ = ["Autoencoder"]

RGB = npt.NDArray[np.uint8]


class Autoencoder:
    """A generator (`generating.Generator`) that makes a photograph again out of its latents.

    Args:
        model: "taef2", or a name or folder of a diffusers autoencoder (needs the extra `diffusers`).
        weights: the folder of TAEF2's weights; for others not used.
        subfolder: of a diffusers model, such as "vae" in a pipeline.
        largest: longest side in pixels; larger photographs are shrunk first, in both classes alike.
        device: of torch.

    Raises:
        UsageError, ModelError: the weights are not there, or not what they should be.
        MissingExtraError: torch or diffusers is not installed.
    """

    task, server, source, parallel = "reconstruct", "", "reconstruction", False
    licence = "as the photograph's; the decoder's licence besides"

    def __init__(
        self, model: str = "taef2", *, weights: str | Path | None = None, subfolder: str | None = None,
        largest: int = 512, device: str = "cpu",
    ) -> None:  # fmt: skip
        if not 16 <= largest <= 8192:
            raise UsageError(f"--largest {largest} must lie between 16 and 8192 pixels")
        self._largest, self._device, self._vae = largest, torch.device(device), None
        if model == "taef2":
            if weights is None:
                raise UsageError("taef2 needs --weights FOLDER, where taef2_encoder and taef2_decoder lie")
            first, second, digest = read_taef2(weights)
            self._encoder, self._decoder, self._step = first.to(self._device), second.to(self._device), STEP
        else:
            self._vae, digest = _diffusers_vae(model, subfolder), ""
            self._vae.to(self._device).eval()
            blocks = getattr(self._vae.config, "block_out_channels", None) or [0] * 5
            self._step = 2 ** (len(blocks) - 1)
        self.model = model
        self.name = Path(model).name if Path(model).is_dir() else model
        self.settings: Mapping[str, Any] = {
            "task": self.task, "model": model, "weights_sha256": digest, "subfolder": subfolder, "largest": largest,
        }  # fmt: skip

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the libraries at work."""
        more = {} if self._vae is None else {"diffusers": str(require("diffusers").__version__)}
        return {"torch": str(torch.__version__), **more}

    def fitted(self, pixels: RGB) -> RGB:
        """Shrink a photograph to the largest side, and cut what its sides have beyond multiples of the step."""
        rows, columns = pixels.shape[:2]
        scale = min(1.0, self._largest / max(rows, columns))
        if scale < 1:
            size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
            pixels = np.asarray(opencv().resize(pixels, size, interpolation=opencv().INTER_AREA), np.uint8)
        rows, columns = (side - side % self._step for side in pixels.shape[:2])
        if not rows or not columns:
            height, width = pixels.shape[:2]
            raise PictureError(f"too thin for latents ({width} x {height} px); {self._step} pixels a side are needed")
        top, left = (pixels.shape[0] - rows) // 2, (pixels.shape[1] - columns) // 2
        return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])

    def make(self, job: Job, photograph: RGB | None) -> Answer:
        """Make a photograph again."""
        if photograph is None:
            raise UsageError("reconstruction needs photographs; give some")
        return Answer(encoded(self.reconstructed(photograph)))

    def reconstructed(self, pixels: RGB) -> RGB:
        """Send a picture through the autoencoder.

        Args:
            pixels: (H, W, 3) uint8 RGB, sides multiples of the step (8 for TAEF2).

        Returns:
            (H, W, 3) uint8 RGB.
        """
        with torch.inference_mode():
            picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(self._device).float() / 255
            if self._vae is None:
                result = self._decoder(self._encoder(picture))
            else:
                coded = self._vae.encode(picture * 2 - 1)  # diffusers' range is -1 to 1
                latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
                result = self._vae.decode(latents).sample / 2 + 0.5
        values = result.clamp(0, 1)[0].permute(1, 2, 0).float().cpu().numpy()
        return np.asarray((values * 255).round(), np.uint8)


def _diffusers_vae(model: str, subfolder: str | None) -> Any:
    diffusers = require("diffusers")
    try:
        # Never pickle: a model without safetensors does not load.
        return diffusers.AutoModel.from_pretrained(
            model,
            subfolder=subfolder,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(model).is_dir(),
        )
    except Exception as err:  # OSError, ValueError, the hub's and safetensors' own
        raise ModelError(
            f"{model} cannot be loaded as an autoencoder ({type(err).__name__}: {str(err)[:200]}); give a diffusers "
            "model with safetensors, and --subfolder vae for the one in a pipeline"
        ) from err
