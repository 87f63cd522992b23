"""From raw rows of observations to what networks read: normalised numbers and, of images, keypoints.

Images pass three strided convolutions; of each of KEYPOINTS feature maps the expected position under its softmax is kept
(spatial softmax, Levine et al. 2016), because what a policy needs of a picture is mostly where things are.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from postbc.demos.frames import Frames
from postbc.demos.normalizer import MinMax
from postbc.observation import ObsShape

WIDTHS = (32, 64, 64)
KEYPOINTS = 32
SHIFT = 4  # pixels


class PixelEncoder(nn.Module):
    """Images (B, C, h, w), 0 to 255 → 2 · KEYPOINTS coordinates in [-1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, kernel in zip(WIDTHS, (5, 3, 3), strict=True):
            layers += [nn.Conv2d(channels, wide, kernel, 2, kernel // 2), nn.GroupNorm(8, wide), nn.ReLU()]
            channels = wide
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, KEYPOINTS, 1))

    def forward(self, images: Float[Tensor, "B C h w"]) -> Float[Tensor, "B F"]:
        """Apply the network."""
        maps = self.body(images / 127.5 - 1)
        height, width = maps.shape[2:]
        weight = maps.flatten(2).softmax(2).unflatten(2, (height, width))
        x, y = (torch.linspace(-1, 1, size, device=maps.device, dtype=maps.dtype) for size in (width, height))
        return torch.cat([(weight.sum(2) * x).sum(2), (weight.sum(3) * y).sum(2)], dim=1)


class Observer(nn.Module):
    """Raw rows (B, O) → features (B, ``features``): the normalised numbers, then the keypoints of the images."""

    def __init__(self, shape: ObsShape) -> None:
        super().__init__()
        self.shape = shape
        self.normalizer = MinMax(shape.vector)
        self.encoder = PixelEncoder(shape.images[0]) if shape.images else None
        self.features = shape.vector + (2 * KEYPOINTS if shape.images else 0)

    def fit(self, frames: Frames) -> None:
        """Take the ranges of ``frames``, on their device."""
        self.normalizer = MinMax.of(frames.obs)
        self.to(frames.obs.device)

    def forward(self, rows: Float[Tensor, "B O"]) -> Float[Tensor, "B F"]:
        """Normalise and encode."""
        if self.encoder is None or self.shape.images is None:
            return self.normalizer(rows)  # type: ignore[no-any-return]
        vector, images = rows.tensor_split([self.shape.vector], dim=1)
        return torch.cat([self.normalizer(vector), self.encoder(images.unflatten(1, self.shape.images))], dim=1)


def shifted(rows: Float[Tensor, "B O"], shape: ObsShape, generator: torch.Generator) -> Float[Tensor, "B O"]:
    """Rows whose images are moved by up to SHIFT pixels each way, edges repeated (Kostrikov et al. 2021)."""
    if shape.images is None:
        return rows
    vector, images = rows.tensor_split([shape.vector], dim=1)
    images = images.unflatten(1, shape.images)
    count, _, height, width = images.shape
    padded = F.pad(images, (SHIFT,) * 4, mode="replicate")
    offset = torch.randint(2 * SHIFT + 1, (2, count, 1), generator=generator).to(rows.device)
    down = offset[0] + torch.arange(height, device=rows.device)
    right = offset[1] + torch.arange(width, device=rows.device)
    item = torch.arange(count, device=rows.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[item, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
    return torch.cat([vector, moved.flatten(1)], dim=1)
