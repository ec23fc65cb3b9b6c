"""Render scenes as frames of any size: pure NumPy, anti-aliased, deterministic.

Flat shapes are signed distances, which give the coverage of a pixel without sampling. Solids are
ray-cast with parallel rays, several samples per pixel.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gridctl.tiny.scene import BOUNCE_HEIGHT, Scene
from gridctl.tiny.words import BACKGROUNDS, COLORS, RGB

Floats = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]

# In units of the shape's radius, so that a growing shape is a zoom of itself. The smallest
# radius is 0.19 of the side: a stroke of 0.2 is still 2.4 px wide in a cell of 64.
STROKE = 0.24
STRIPE_PERIOD = 0.6
HATCH_PERIOD = 0.56
HATCH_STROKE = 0.2
WOBBLE = 0.028
DARKER = 0.5  # the second tone of a striped shape, relative to its colour

ELEVATION = math.radians(30)  # of the camera above the solids
SAMPLES = 2  # per pixel and axis, for solids
MARK = 0.24  # half width of a solid's mark, in units of its radius
LIGHT = (-0.384, -0.512, 0.768)  # from the upper left, behind the camera
AMBIENT = 0.45


def frame_times(scene: Scene, num_frames: int) -> list[float]:
    """The time of each frame of a clip, from 0 to 1.

    A shape's last frame is the end of its motion: k / (F - 1). A solid's turn is closed, so its
    end, which equals its start, is left out: k / F.
    """
    steps = num_frames if scene.kind == "solid" else max(num_frames - 1, 1)
    return [frame / steps for frame in range(num_frames)]


def render_clip(scene: Scene, num_frames: int, size: tuple[int, int]) -> Frames:
    """The whole clip, (F, H, W, 3) uint8, for `size` (width, height) in pixels."""
    return np.stack([render_frame(scene, t, size) for t in frame_times(scene, num_frames)])


def render_frame(scene: Scene, t: float, size: tuple[int, int]) -> Frames:
    """The frame at time `t` in 0..1, (H, W, 3) uint8, for `size` (width, height) in pixels."""
    paints = [BACKGROUNDS[scene.background], COLORS[scene.color], mark_color(scene.color)]
    return np.rint(_paint(scene, t, size, np.array(paints, np.float32))).astype(np.uint8)


def render_layers(scene: Scene, t: float, size: tuple[int, int]) -> Floats:
    """The share of background, colour and mark in each pixel, (H, W, 3), with shading.

    `render_layers(...) @ [background, colour, mark]` (RGB each) is the frame before rounding,
    in any colours.
    """
    return _paint(scene, t, size, np.eye(3, dtype=np.float32))


def mark_color(color: str) -> RGB:
    """The colour of the mark on a solid: dark on a light solid, light on a dark one."""
    light = np.dot(COLORS[color], [0.3, 0.6, 0.1]) > 120
    return (30, 30, 30) if light else (245, 245, 245)


def _paint(scene: Scene, t: float, size: tuple[int, int], paints: Floats) -> Floats:
    """The frame in these `paints` (3 channels each) for background, colour and mark."""
    width, height = size
    frame = np.empty((height, width, 3), np.float32)
    frame[:] = paints[0]
    side = min(width, height)
    x, y, radius = pose(scene, t)
    center_x, center_y = x * side + (width - side) / 2, y * side + (height - side) / 2
    # Only the window around the object is computed; 1 px more, for its soft edge.
    reach = radius * side + 1
    left, right = max(int(center_x - reach), 0), min(int(center_x + reach) + 1, width)
    top, bottom = max(int(center_y - reach), 0), min(int(center_y + reach) + 1, height)
    unit = radius * side  # pixels per radius
    samples = SAMPLES if scene.kind == "solid" else 1
    columns = (_centers(left, right, samples) - center_x)[None, :] / unit
    rows = (_centers(top, bottom, samples) - center_y)[:, None] / unit
    if scene.kind == "solid":
        fine = _solid(scene.shape, 2 * math.pi * t, columns, rows, paints)
        window = fine.reshape(bottom - top, samples, right - left, samples, 3).mean((1, 3))
    else:
        window = _shape(scene, columns, rows, 1 / unit, paints)
    frame[top:bottom, left:right] = window
    return frame


def pose(scene: Scene, t: float) -> tuple[float, float, float]:
    """(x, y, radius) of the object at time `t` in 0..1, in units of the cell side."""
    x, y, way = scene.x, scene.y, scene.speed * t
    if scene.motion in _DIRECTIONS:
        right, down = _DIRECTIONS[scene.motion]
        return x + right * way, y + down * way, scene.size
    if scene.motion in ("moving clockwise", "moving counter-clockwise"):
        # y runs down, so a growing angle turns clockwise.
        angle = 2 * math.pi * (way if scene.motion == "moving clockwise" else -way)
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = x - 0.5, y - 0.5
        return 0.5 + cos * x - sin * y, 0.5 + sin * x + cos * y, scene.size
    if scene.motion in ("growing", "shrinking"):
        return x, y, scene.size * (1 + (scene.speed - 1) * t)
    if scene.motion == "bouncing":
        fall = way % 1
        return x, y - BOUNCE_HEIGHT * 4 * fall * (1 - fall), scene.size
    return x, y, scene.size


_DIRECTIONS = {
    "moving right": (1, 0),
    "moving left": (-1, 0),
    "moving up": (0, -1),
    "moving down": (0, 1),
}


def _centers(start: int, stop: int, samples: int) -> Floats:
    """Pixel coordinates of sample centres, `samples` in each of the pixels start..stop."""
    count = (stop - start) * samples
    return (start + (np.arange(count, dtype=np.float32) + 0.5) / samples).astype(np.float32)


# --- flat shapes: x right, y down, in units of the radius -----------------------------------


def _shape(scene: Scene, x: Floats, y: Floats, pixel: float, paints: Floats) -> Floats:
    """The shape in its style on the background, (H, W, 3), for pixels of that side."""
    background, color, _ = paints
    if scene.style == "sketch":
        # The hand is unsteady: bend the plane before anything is drawn in it.
        turn = 2 * math.pi * scene.phase
        x, y = (1 + WOBBLE) * x, (1 + WOBBLE) * y  # it must not leave its circle
        x, y = x + WOBBLE * np.sin(5.9 * y + turn), y + WOBBLE * np.sin(6.7 * x + 2 * turn)
    distance = shape_distance(scene.shape, x, y)
    if scene.style == "outline":
        return _mix(background, color, _coverage(_stroke(distance, STROKE), pixel))
    if scene.style == "sketch":
        hatch = _lines(x + y, HATCH_PERIOD, HATCH_STROKE)
        ink = np.minimum(_stroke(distance, HATCH_STROKE), np.maximum(distance, hatch))
        return _mix(background, color, _coverage(ink, pixel))
    fill = color
    if scene.style == "striped":
        stripes = _lines(x - y, STRIPE_PERIOD, STRIPE_PERIOD / 2)
        fill = _mix(color, DARKER * color, _coverage(stripes, pixel))
    return _mix(background, fill, _coverage(distance, pixel))


def shape_distance(shape: str, x: Floats, y: Floats) -> Floats:
    """Signed distance to the shape's edge, negative inside; all fit the unit circle."""
    if shape == "circle":
        return _circle(x, y, 0.92)
    if shape == "square":
        return _square(x, y, 0.7)
    if shape == "cross":
        return _cross(x, y, 0.9, 0.37)
    if shape == "heart":
        return _heart(x, y)
    return _star(x, y, *{"triangle": (3, 0.5), "star": (5, 0.5)}[shape])


def _circle(x: Floats, y: Floats, radius: float) -> Floats:
    distance: Floats = np.hypot(x, y) - np.float32(radius)
    return distance


def _square(x: Floats, y: Floats, half: float) -> Floats:
    over_x, over_y = np.abs(x) - np.float32(half), np.abs(y) - np.float32(half)
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    distance: Floats = outside + np.minimum(np.maximum(over_x, over_y), 0)
    return distance


def _star(x: Floats, y: Floats, tips: int, inner: float) -> Floats:
    """Tips on the unit circle, the first on top; notches at radius `inner`.

    Three tips and 0.5 make an equilateral triangle. By symmetry only the half wedge between
    a tip and the next notch counts, and in it a single edge.
    """
    wedge = 2 * math.pi / tips
    angle = np.abs((np.arctan2(x, -y) + wedge / 2) % wedge - wedge / 2)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    edge_x, edge_y = inner * math.cos(wedge / 2) - 1, inner * math.sin(wedge / 2)
    on_edge = ((along - 1) * edge_x + across * edge_y) / (edge_x**2 + edge_y**2)
    on_edge = np.clip(on_edge, 0, 1)
    off_edge = np.hypot(along - 1 - on_edge * edge_x, across - on_edge * edge_y)
    outside = edge_y * (along - 1) - edge_x * across  # which side of the edge, by its sign
    distance: Floats = np.copysign(off_edge, outside)
    return distance


def _cross(x: Floats, y: Floats, length: float, width: float) -> Floats:
    """A plus sign; half lengths of its arms. Mirrored into the eighth 0 <= y <= x."""
    x, y = np.abs(x), np.abs(y)
    x, y = np.maximum(x, y), np.minimum(x, y)
    over_x, over_y = x - np.float32(length), y - np.float32(width)
    outside = np.hypot(np.maximum(over_x, 0), np.maximum(over_y, 0))
    # Inside, the nearest edge is the arm's end, or its long side up to the notch's corner.
    notch = np.hypot(np.maximum(np.float32(width) - x, 0), over_y)
    inside = np.maximum(over_x, -notch)
    distance: Floats = np.where((over_x < 0) & (over_y < 0), inside, outside)
    return distance


def _heart(x: Floats, y: Floats) -> Floats:
    """A square on its corner with a half disc on each upper side, mirrored at x = 0."""
    scale = np.float32(0.66)  # from the unit circle to a heart from (0, 0) to about (0, 1.1)
    x, y = np.abs(x) * scale, np.float32(0.58) - y * scale
    x, y = np.broadcast_arrays(x, y)
    disc = np.hypot(x - 0.25, y - 0.75) - np.float32(math.sqrt(0.125))
    foot = np.maximum(x + y, 0) / 2  # of the perpendicular to the edge y = x
    edge = np.minimum(np.hypot(x, y - 1), np.hypot(x - foot, y - foot))
    distance: Floats = np.where(x + y > 1, disc, np.copysign(edge, x - y)) / scale
    return distance


def _stroke(distance: Floats, width: float) -> Floats:
    """Signed distance to a stroke of that width along the inner side of the edge."""
    half = np.float32(width / 2)
    stroke: Floats = np.abs(distance + half) - half
    return stroke


def _lines(across: Floats, period: float, width: float) -> Floats:
    """Signed distance to diagonal lines; `across` is x + y or x - y."""
    offset = across / np.float32(math.sqrt(2))
    lines: Floats = np.abs((offset + period / 2) % period - period / 2) - np.float32(width / 2)
    return lines


def _coverage(distance: Floats, pixel: float) -> Floats:
    """Share of each pixel that lies inside, 0..1."""
    coverage: Floats = np.clip(np.float32(0.5) - distance / np.float32(pixel), 0, 1)
    return coverage


def _mix(under: Floats, over: Floats, coverage: Floats) -> Floats:
    mixed: Floats = under + coverage[..., None] * (over - under)
    return mixed


# --- solids: the world has x right, y away from the camera, z up ----------------------------


def _solid(solid: str, azimuth: float, x: Floats, y: Floats, paints: Floats) -> Floats:
    """The turned solid on the background, (H, W, 3), lit by a light that stays with the camera."""
    x, y = np.broadcast_arrays(x, y)
    cos, sin = math.cos(ELEVATION), math.sin(ELEVATION)
    forward = np.array([0, cos, -sin], np.float32)
    origin = np.stack([x, -sin * y, -cos * y], -1) - 2 * forward  # (H, W, 3), where rays start
    if solid in ("cube", "pyramid"):
        hit, depth, normal = _cast_planes(_planes(solid, azimuth), origin, forward)
    elif solid == "cylinder":
        hit, depth, normal = _cast_cylinder(origin, forward)
    else:
        hit, depth, normal = _cast_torus(origin, forward)
    point = origin + depth[..., None] * forward
    # The mark is a stripe on the half that faces the camera at azimuth 0.
    cos, sin = math.cos(azimuth), math.sin(azimuth)
    own_x = cos * point[..., 0] + sin * point[..., 1]
    own_y = cos * point[..., 1] - sin * point[..., 0]
    marked = (np.abs(own_x) < MARK) & (own_y < 0)
    background, color, mark = paints
    shade = AMBIENT + (1 - AMBIENT) * np.maximum(normal @ np.array(LIGHT, np.float32), 0)
    surface = np.where(marked[..., None], mark, color) * shade[..., None]
    seen: Floats = np.where(hit[..., None], surface, background)
    return seen


def _planes(solid: str, azimuth: float) -> list[tuple[Floats, float]]:
    """(outward normal, distance from the centre) of each face, after the turn."""
    cos, sin = math.cos(azimuth), math.sin(azimuth)
    around = [(sin, -cos), (cos, sin), (-sin, cos), (-cos, -sin)]  # front first
    if solid == "cube":
        faces = [((x, y, 0.0), 0.56) for x, y in around]
        faces += [((0.0, 0.0, 1.0), 0.56), ((0.0, 0.0, -1.0), 0.56)]
    else:
        half, base, apex = 0.64, -0.42, 0.86
        slope = math.hypot(apex - base, half)
        across, up = (apex - base) / slope, half / slope
        faces = [((across * x, across * y, up), apex * up) for x, y in around]
        faces += [((0.0, 0.0, -1.0), -base)]
    return [(np.array(normal, np.float32), offset) for normal, offset in faces]


Hit = tuple[npt.NDArray[np.bool_], Floats, Floats]  # whether (H, W), depth (H, W), normal (H, W, 3)


def _cast_planes(planes: list[tuple[Floats, float]], origin: Floats, forward: Floats) -> Hit:
    """A convex body: a ray enters by its last entry into a half space, leaves by its first exit."""
    near = np.full(origin.shape[:-1], -np.inf, np.float32)
    far = np.full(origin.shape[:-1], np.inf, np.float32)
    entered = np.zeros(origin.shape[:-1], np.intp)
    for face, (plane, offset) in enumerate(planes):
        toward = float(plane @ forward)
        toward = toward if abs(toward) > 1e-6 else 1e-6  # along the face: never or always
        depth = (np.float32(offset) - origin @ plane) / np.float32(toward)
        if toward > 0:
            far = np.minimum(far, depth)
        else:
            entered[depth > near] = face
            near = np.maximum(near, depth)
    normals = np.stack([plane for plane, _ in planes])
    return near < far, near, normals[entered]


def _cast_cylinder(origin: Floats, forward: Floats) -> Hit:
    """An upright cylinder: a wall, which is round, between two planes."""
    radius, half = np.float32(0.6), 0.66
    x = origin[..., 0]
    y = -np.sqrt(np.maximum(radius**2 - x**2, 0))  # of the wall's near side
    wall = (y - origin[..., 1]) / forward[1]
    back = (-y - origin[..., 1]) / forward[1]
    top = (half - origin[..., 2]) / forward[2]
    bottom = (-half - origin[..., 2]) / forward[2]
    depth = np.maximum(wall, top)
    hit = (np.abs(x) < radius) & (depth < np.minimum(back, bottom))
    side = np.stack([x, y, np.zeros_like(x)], -1) / radius
    normal = np.where((wall > top)[..., None], side, np.array([0, 0, 1], np.float32))
    return hit, depth, normal


def _cast_torus(origin: Floats, forward: Floats) -> Hit:
    """A torus that lies flat, by sphere tracing: each step is the distance that is surely free."""
    ring, tube = np.float32(0.66), np.float32(0.3)
    flat = origin.reshape(-1, 3)
    # Rays start and end at the slab that holds the torus.
    depth = (tube - flat[:, 2]) / forward[2]
    end = (-tube - flat[:, 2]) / forward[2]
    active = np.arange(len(flat))
    hit = np.zeros(len(flat), bool)
    for _ in range(48):
        point = flat[active] + depth[active, None] * forward
        around = np.hypot(point[:, 0], point[:, 1]) - ring
        distance = np.hypot(around, point[:, 2]) - tube
        depth[active] += distance
        hit[active[distance < 2e-3]] = True
        active = active[(distance >= 2e-3) & (depth[active] < end[active])]
        if not len(active):
            break
    point = flat + depth[:, None] * forward
    # From the middle of the tube to the point on its surface.
    middle = point * np.array([1, 1, 0], np.float32)
    middle *= ring / np.maximum(np.linalg.norm(middle, axis=-1, keepdims=True), 1e-6)
    normal = (point - middle) / tube
    shape = origin.shape[:-1]
    return hit.reshape(shape), depth.reshape(shape), normal.reshape(origin.shape)
