"""Augmentation: what the random draws decide, and against torchvision."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from trainables.engine.augment import Augmentation, AugmentationError

ALL = Augmentation(crop=4, flip=True, rotation=15, cutout=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=64, channels=3, height=32, width=32, dtype=torch.uint8):
    x = torch.randint(256, (n, channels, height, width), generator=seeded(99))
    return x.to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_the_seed_decides_and_the_batch_is_unchanged(dtype):
    x = images(dtype=dtype)
    before, state = x.clone(), torch.get_rng_state()
    one, two, other = (ALL(x, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert one.dtype == dtype
    assert one.shape == x.shape


def test_zero_settings_change_nothing():
    x = images()
    assert Augmentation()(x, seeded()) is x


def test_each_image_is_drawn_separately():
    x = images(1).expand(64, -1, -1, -1)
    for f in (
        lambda x, g: Augmentation(crop=4)(x, g),
        lambda x, g: Augmentation(rotation=15)(x, g),
        lambda x, g: Augmentation(cutout=8)(x, g),
    ):
        assert len(torch.unique(f(x, seeded()), dim=0)) > 30
    assert len(torch.unique(Augmentation(flip=True)(x, seeded()), dim=0)) == 2


def test_crop_is_a_window_of_the_padded_image_anywhere():
    x = images(4000, 2, 5, 7)
    out = Augmentation(crop=2)(x, seeded())
    padded = functional.pad(x, [2, 2, 2, 2])
    counts = torch.zeros(5, 5)
    for image, source in zip(out, padded, strict=True):
        hits = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(image, source[:, r : r + 5, c : c + 7])
        ]
        assert len(hits) == 1
        counts[hits[0]] += 1
    # 25 places, each with probability 1/25.
    np.testing.assert_allclose(counts / 4000, 1 / 25, atol=5 * (0.04 * 0.96 / 4000) ** 0.5)


def test_flip_is_left_to_right_half_of_the_time():
    x = images(2000)
    out = Augmentation(flip=True)(x, seeded())
    flipped = (out == x.flip(-1)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert flipped.float().mean().item() == pytest.approx(0.5, abs=4 * (0.25 / 2000) ** 0.5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 40)])
def test_rotation_equals_torchvisions(height, width):
    x = images(16, 3, height, width, torch.float32)
    angles = (torch.rand(16, generator=seeded(3), dtype=torch.float64) * 2 - 1) * 20
    out = Augmentation(rotation=20)(x, seeded(3))
    assert angles.abs().max() > 10
    for image, rotated, angle in zip(x, out, angles.tolist(), strict=True):
        expected = reference.rotate(image, angle, InterpolationMode.BILINEAR)
        centre = (slice(None), slice(6, -6), slice(6, -6))
        torch.testing.assert_close(rotated[centre], expected[centre], atol=0.5, rtol=0)


def test_cutout_fills_one_square_and_leaves_the_rest():
    x = images(500, 3, 20, 24, torch.float32) + 1
    fill = torch.tensor([1.5, 2.5, 3.5])[None, :, None, None]
    out = Augmentation(cutout=6)(x, seeded(), fill)
    changed = (out != x).any(1)
    areas = changed.flatten(1).sum(1)
    assert areas.max() == 36  # whole where it fits
    assert areas.min() >= 9  # a quarter at a corner
    for image, mask in zip(out[:50], changed[:50], strict=True):
        rows, columns = torch.where(mask)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert height * width == mask.sum()
        assert torch.equal(image[:, mask], fill[0, :, :, 0].expand(3, int(mask.sum())))
    assert torch.equal(
        Augmentation(cutout=6)(images(), seeded(), 7.6),
        Augmentation(cutout=6)(images(), seeded(), 8),
    )


def test_uint8_and_floating_images_are_treated_alike():
    whole, floating = images(), images(dtype=torch.float32)
    assert torch.equal(ALL(whole, seeded()).float(), ALL(floating, seeded()).round())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_same_on_a_gpu():
    x = images(dtype=torch.float32)
    on_cpu, on_gpu = ALL(x, seeded()), ALL(x.cuda(), seeded())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rotation": -1}, "rotation = -1; allowed: 0 to 180"),
        ({"rotation": float("nan")}, "rotation = nan"),
        ({"crop": 2.5}, "crop = 2.5; allowed: whole numbers"),
        ({"cutout": -8}, "cutout = -8"),
        ({"flip": "yes"}, "flip = 'yes'; allowed: true, false"),
        ({"mixup": 1}, "unknown augmentation 'mixup'; allowed: crop, flip, rotation, cutout"),
    ],
)
def test_bad_settings_are_one_clear_line(settings, says):
    with pytest.raises(AugmentationError, match=says):
        Augmentation.from_dict(settings)


def test_settings_that_do_not_fit_the_inputs():
    Augmentation().check((2048,))
    ALL.check((3, 32, 32))
    with pytest.raises(AugmentationError, match="needs images"):
        ALL.check((2048,))
    with pytest.raises(AugmentationError, match=r"crop = 9; allowed: up to the image, \(8, 16\)"):
        Augmentation(crop=9).check((1, 8, 16))
