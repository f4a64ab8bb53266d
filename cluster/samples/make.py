#!/usr/bin/env python3
"""Draws the samples of the demo: cat.jpg, clip.mp4 and site/img/lake.jpg. Everything is computed; nothing is copied.

    python3 -m venv /tmp/samples && /tmp/samples/bin/pip install numpy==2.4.6 pillow==13.0.0
    /tmp/samples/bin/python cluster/samples/make.py       (ffmpeg must be in PATH; takes a minute)

Seeds are fixed, but other versions of numpy, Pillow or x264 may give other bytes: the committed files are what counts.
"""

import pathlib
import subprocess

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HERE = pathlib.Path(__file__).resolve().parent


def mix(a, b, t):
    """Goes from a to b as t goes from 0 to 1."""
    return a + (b - a) * t


def smooth(t):
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng, height, width, rows, columns, octaves, fade=0.5):
    """Sums octaves of smoothly enlarged random grids; values around 0, about -1 to 1."""
    total, weight = np.zeros((height, width)), 1.0
    for _ in range(octaves):
        grid = Image.fromarray(rng.uniform(-1, 1, (rows + 1, columns + 1)).astype(np.float32))
        total += weight * np.asarray(grid.resize((width, height), Image.BICUBIC))
        rows, columns, weight = min(rows * 2, height), min(columns * 2, width), weight * fade
    return total


def gradient(stops, t):
    """Colours along t from (position, (r, g, b)) stops."""
    positions = [position for position, _ in stops]
    channels = [np.interp(t, positions, [colour[c] for _, colour in stops]) for c in range(3)]
    return np.stack(channels, axis=-1)


SKY = [(0, (0.10, 0.12, 0.30)), (0.35, (0.34, 0.22, 0.45)), (0.62, (0.80, 0.38, 0.38)), (0.85, (0.98, 0.62, 0.33)),
       (1, (1.0, 0.83, 0.52))]


def sky(rng, height, width, horizon, sun):
    """The evening sky down to the horizon: colours, the sun's glow, lit clouds."""
    y, x = np.mgrid[0:height, 0:width] / height
    image = gradient(SKY, np.clip(y / horizon, 0, 1))
    distance = np.hypot(x - sun[0], (y - sun[1]) * 1.1)
    glow = np.exp(-distance * 4.5)[..., None]
    image = image + glow * np.array([0.55, 0.32, 0.10])
    # Clouds: wide and flat, denser towards the top, lit from below near the sun.
    density = noise(rng, height, width, 7, 4, 7, 0.55) + 0.25 * noise(rng, height, width, 30, 10, 4)
    cover = smooth((density + 0.05 - 0.35 * (y / horizon)) / 0.8)[..., None] * (y < horizon)[..., None]
    edge = np.roll(density, -max(2, height // 120), axis=0) - density
    lit = np.clip(0.45 + 2.2 * edge, 0, 1)[..., None] * (0.35 + 1.1 * np.exp(-distance * 2.2)[..., None])
    cloud = mix(np.array([0.25, 0.17, 0.34]), np.array([1.0, 0.60, 0.38]), np.clip(lit, 0, 1))
    image = mix(image, cloud, 0.8 * cover)
    disc = smooth((0.040 - distance) / 0.004)[..., None]
    # Brighter than white, so that its mirror in the dark lake is still bright.
    return mix(np.minimum(image, 1), np.array([1.9, 1.35, 0.95]), disc * (1 - 0.5 * cover))


def ridge(rng, width, base, rough, columns):
    """Heights of one line of hills."""
    return base + rough * noise(rng, 1, width, 1, columns, 7, 0.48)[0]


def landscape(height, width, seed, sun, drift=0.0, phase=0.0):
    """Sky, five lines of hills in haze, and a lake that mirrors them."""
    rng = np.random.default_rng(seed)
    horizon = 0.62
    wide = width + width // 4  # drawn wider than seen, so that it can drift
    start = int(drift * (wide - width))
    image = sky(rng, height, wide, horizon, (sun[0] + start / height, sun[1]))
    y, x = np.mgrid[0:height, 0:wide] / height
    distance = np.hypot(x - sun[0] - start / height, y - sun[1])
    for layer in range(5):
        nearness = layer / 4
        tops = ridge(rng, wide, horizon - 0.15 + 0.105 * nearness, 0.055 - 0.018 * nearness, 5 + 4 * layer)
        inside = smooth((y - tops) * height / 1.5 + 0.5)[..., None]
        haze = mix(np.array([0.80, 0.44, 0.40]), np.array([0.11, 0.09, 0.17]), nearness**0.8)
        warm = np.exp(-distance * 3.2)[..., None] * np.array([0.5, 0.26, 0.08]) * (1 - 0.75 * nearness)
        depth = (np.clip((y - tops) / 0.16, 0, 1) * (1 - nearness) * 0.28)[..., None]
        texture = 0.03 * nearness * noise(rng, height, wide, 60, 90, 3)[..., None]
        hills = haze + warm + depth * np.array([0.9, 0.6, 0.5]) + texture
        image = mix(image, hills, inside * (y < horizon)[..., None])
    return lake(rng, image, horizon, x, y, sun[0] + start / height, phase)[:, start : start + width]


def lake(rng, image, horizon, x, y, sun_x, phase):
    """Mirrors what is above the horizon, broken by waves that grow towards the viewer."""
    height, wide = y.shape
    below = np.clip((y - horizon) / (1 - horizon), 0, 1)
    waves = noise(rng, height, wide, 150, 14, 4, 0.6)
    swing = np.sin(x * (90 - 60 * below) + y * 500 / (0.25 + below) + phase + 4 * waves)
    shift = (waves * 0.7 + swing * 0.5) * (0.003 + 0.028 * below)
    rows = np.clip((2 * horizon - y + shift) * height, 0, horizon * height - 1).astype(int)
    columns = np.clip(np.arange(wide) + (shift * height * 0.35).astype(int), 0, wide - 1)
    mirror = image[rows, columns] * mix(0.80, 0.42, below)[..., None] + np.array([0.02, 0.03, 0.07]) * below[..., None]
    path = np.exp(-(((x - sun_x) / (0.045 + 0.10 * below)) ** 2)) * smooth((shift / (0.004 + 0.028 * below)) * 1.4)
    mirror = mirror + (path * mix(0.9, 0.35, below))[..., None] * np.array([1.0, 0.62, 0.30])
    return np.where((y >= horizon)[..., None], mirror, image)


def curve(points, steps=24):
    """A closed smooth line through the points (Catmull-Rom)."""
    points = np.array(points, float)
    line = []
    for i in range(len(points)):
        p0, p1, p2, p3 = (points[(i + k) % len(points)] for k in (-1, 0, 1, 2))
        for t in np.linspace(0, 1, steps, endpoint=False):
            line.append(0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                               + (3 * p1 - p0 - 3 * p2 + p3) * t**3))
    return [tuple(point) for point in line]


# A cat that sits with its back to us and looks over the lake; (0, 0) is where it sits, one unit is its height.
BODY = [(-0.30, 0.0), (-0.33, -0.16), (-0.27, -0.36), (-0.17, -0.52), (-0.115, -0.63), (-0.10, -0.70), (0.10, -0.70),
        (0.115, -0.63), (0.17, -0.52), (0.27, -0.36), (0.33, -0.16), (0.30, 0.0), (0.15, 0.03), (-0.15, 0.03)]
HEAD = [(-0.175, -0.77), (-0.165, -0.86), (-0.09, -0.915), (0, -0.925), (0.09, -0.915), (0.165, -0.86), (0.175, -0.77),
        (0.12, -0.68), (0, -0.655), (-0.12, -0.68)]
EARS = [[(-0.172, -0.80), (-0.168, -0.93), (-0.158, -1.035), (-0.143, -1.04), (-0.08, -0.965), (-0.03, -0.90)],
        [(0.172, -0.80), (0.168, -0.93), (0.158, -1.035), (0.143, -1.04), (0.08, -0.965), (0.03, -0.90)]]
TAIL = [(0.20, -0.02), (0.38, 0.02), (0.52, 0.00), (0.60, -0.08), (0.60, -0.18), (0.545, -0.22), (0.52, -0.19),
        (0.545, -0.14), (0.53, -0.07), (0.45, -0.05), (0.33, -0.06)]


def cat_mask(height, width, foot, size):
    """The silhouette of the cat and of the rock below it, as 0 to 1; drawn at three times the size."""
    scale = 3
    mask = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(mask)
    place = lambda points: [((foot[0] + x * size) * height * scale, (foot[1] + y * size) * height * scale)
                            for x, y in points]
    fine = np.random.default_rng(5)
    for points in (BODY, HEAD, TAIL):  # fur: short hairs across the outline, under the shapes
        line = curve(points, 90)
        for (x, y), (x2, y2) in zip(line, line[1:]):
            angle = np.arctan2(y2 - y, x2 - x) - np.pi / 2 + fine.normal(0, 0.5)
            reach = fine.uniform(0.004, 0.016)
            tip = (x + np.cos(angle) * reach, y + np.sin(angle) * reach + 0.004)
            draw.line(place([(x, y), tip]), fill=220, width=scale)
    for shape in (BODY, HEAD, TAIL):
        draw.polygon(place(curve(shape)), fill=255)
    for ear in EARS:
        draw.polygon(place(ear), fill=255)
    for side in (-1, 1):
        for k in range(4):  # whiskers
            tip = (side * (0.33 + 0.02 * k), -0.80 + 0.045 * k)
            draw.line(place([(side * 0.13, -0.765 + 0.012 * k), tip]), fill=150, width=max(1, int(scale * height / 1100)))
    return np.asarray(mask.resize((width, height), Image.LANCZOS)) / 255


def finish(image, rng, grain=0.018):
    """What a lens and a sensor add: bloom, vignette, grain. Returns a picture."""
    height, width, _ = image.shape
    picture = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    bloom = np.asarray(picture.filter(ImageFilter.GaussianBlur(height / 40))) / 255
    image = 1 - (1 - np.clip(image, 0, 1)) * (1 - 0.28 * bloom**2)
    y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
    image = image * (1 - 0.22 * np.clip((x**2 + y**2) / 2, 0, 1) ** 1.2)[..., None]
    image = image + rng.normal(0, grain, (height, width, 1))
    return Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))


def photo(height, width, with_cat):
    sun = (0.97, 0.405)
    image = landscape(height, width, 7, sun)
    if with_cat:
        rng = np.random.default_rng(3)
        y, x = np.mgrid[0:height, 0:width] / height
        foot, size = (0.47, 0.875), 0.50
        top = 0.885 + 0.10 * np.clip(np.abs(x - 0.46) - 0.30, 0, 1) ** 1.4 + 0.013 * noise(rng, 1, width, 1, 9, 6)[0]
        rock = smooth((y - top) * height / 2 + 0.5)
        stone = 0.045 + 0.03 * noise(rng, height, width, 50, 60, 5, 0.6) + 0.22 * np.exp(-(y - top) * 75)
        stone = np.clip(stone, 0.012, 1)[..., None] * np.array([1.0, 0.68, 0.56])
        image = mix(image, stone, rock[..., None])
        cat = cat_mask(height, width, foot, size)
        # A rim of light on the side of the sun, where the fur is thin.
        inner = np.asarray(Image.fromarray((cat * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(height / 140))) / 255
        rim = np.clip(np.roll(inner, int(-height / 260), axis=1) * -1 + cat, 0, 1) * np.clip((x - foot[0]) * 6 + 0.35, 0, 1)
        fur = np.array([0.030, 0.024, 0.040]) + 0.012 * noise(rng, height, width, 200, 200, 2)[..., None]
        fur = fur + (rim * 1.5)[..., None] * np.array([1.0, 0.56, 0.26])
        image = mix(image, fur, cat[..., None])
    return finish(image, np.random.default_rng(11))


def clip(path, seconds=10, rate=25, height=360, width=640):
    """The sun goes down behind the hills; a bar and a number tell the second, so that a seek can be seen."""
    sound = "aevalsrc='0.16*sin(2*PI*(220+55*floor(t/2))*t)*exp(-2.2*mod(t,1))+0.05*sin(2*PI*110*t)':d=%d:s=48000" % seconds
    ffmpeg = subprocess.Popen(
        ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
         "-r", str(rate), "-i", "-", "-f", "lavfi", "-i", sound, "-c:v", "libx264", "-profile:v", "high", "-preset",
         "slow", "-b:v", "1150k", "-g", str(rate * 2), "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "96k", "-shortest",
         "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact", str(path)],
        stdin=subprocess.PIPE)
    rng = np.random.default_rng(2)
    for frame in range(seconds * rate):
        t = frame / (seconds * rate)
        image = landscape(height, width, 21, (0.62 + 0.25 * t, 0.30 + 0.26 * t), drift=0.6 * t, phase=t * 40)
        image = image * mix(1.06, 0.80, t)
        picture = finish(image, rng, 0.012)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, height - 5, int(width * (frame + 1) / (seconds * rate)), height), fill=(255, 214, 140))
        draw.text((16, 12), f"{frame / rate:04.1f} s", fill=(255, 244, 225), font_size=26)
        ffmpeg.stdin.write(np.asarray(picture).tobytes())
    ffmpeg.stdin.close()
    if ffmpeg.wait() != 0:
        raise SystemExit("ffmpeg failed; its words are above")


if __name__ == "__main__":
    photo(1067, 1600, with_cat=True).save(HERE / "cat.jpg", quality=84, optimize=True, progressive=True)
    photo(600, 1200, with_cat=False).save(HERE / "site/img/lake.jpg", quality=78, optimize=True, progressive=True)
    clip(HERE / "clip.mp4")
    for name in ("cat.jpg", "clip.mp4", "site/img/lake.jpg"):
        print(f"{name}: {(HERE / name).stat().st_size} bytes")
