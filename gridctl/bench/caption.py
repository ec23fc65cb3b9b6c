"""`gridctl bench caption`: captioning through a server, compared with its answers alone."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from gridctl.bench.harness import Candidate, Report, compare
from gridctl.bench.sizes import CaptionSizes
from gridctl.caption import caption
from gridctl.caption.server import ServerDescriber
from gridctl.dataset.grid_image import save_grid
from gridctl.dataset.metadata import GridMetadata
from gridctl.errors import GridctlError
from gridctl.geometry import Grid
from gridctl.profile import CaptionSection
from gridctl.progress import Progress, silent

GRID = Grid(rows=4, cols=6, cell=(256, 256))
DISTINCT = 8  # pictures; the others are links, which are faster to make


def bench_caption(
    sizes: CaptionSizes | None = None, *, repeats: int = 1, progress: Progress | None = None
) -> Report:
    """Caption grids through a server process on loopback that only sleeps before it answers."""
    sizes, progress = sizes or CaptionSizes(), progress or silent
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, sizes.answer_seconds), daemon=True)
    process.start()
    try:
        with tempfile.TemporaryDirectory(prefix="gridctl-bench-") as name:
            folder = Path(name)
            progress(0, 1, "making grids")
            make_grids(folder, sizes.grids)
            settings = CaptionSection(
                server=f"http://127.0.0.1:{ours.recv()}", concurrency=sizes.concurrency
            )
            candidates = [
                Candidate(name="gridctl caption", work=partial(_caption, folder, settings)),
                Candidate(
                    name="the server's answers alone", work=partial(_sleep, sizes), target=1.2
                ),
            ]
            comparison = compare("captions", candidates, repeats=repeats, progress=progress)
    finally:
        process.terminate()
        process.join()
    return Report(
        bench="caption",
        about=f"{sizes.grids} grids of {GRID}, {sizes.answer_seconds * 1000:.0f} ms per answer, "
        f"{sizes.concurrency} concurrent requests",
        comparisons=(comparison,),
    )


def _caption(folder: Path, settings: CaptionSection) -> float:
    """Seconds to caption all grids of the folder."""
    for text in folder.glob("*.txt"):
        text.unlink()
    describer = ServerDescriber(settings=settings, model="bench")
    start = time.perf_counter()
    result = caption([folder], describer=describer)
    seconds = time.perf_counter() - start
    if result.failed:  # the time would mean nothing
        raise GridctlError(f"captioning failed: {result.failed[0]}")
    return seconds


def _sleep(sizes: CaptionSizes) -> None:
    """Wait as a client would that costs nothing and keeps every request slot busy."""
    with ThreadPoolExecutor(sizes.concurrency) as slots:
        for _ in slots.map(time.sleep, [sizes.answer_seconds] * sizes.grids):
            pass


def make_grids(folder: Path, count: int) -> None:
    """Write `count` JPEG grids: a few distinct ones, and hard links to them."""
    times = tuple(k / 8 for k in range(GRID.num_frames))
    metadata = GridMetadata(
        grid=GRID, source="bench", times_seconds=times, fps=8.0, num_frames=GRID.num_frames
    )
    width, height = GRID.image_size
    for number in range(count):
        path = folder / f"vid{number}.jpg"
        if number < DISTINCT:
            coarse = np.random.default_rng(number).integers(0, 256, (height // 16, width // 16, 3))
            picture = coarse.astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
            save_grid(picture, path, metadata)
        else:
            path.hardlink_to(folder / f"vid{number % DISTINCT}.jpg")


def _serve(connection: Connection, answer_seconds: float) -> None:
    asyncio.run(_serve_forever(connection, answer_seconds))


async def _serve_forever(connection: Connection, answer_seconds: float) -> None:
    choice = {"message": {"content": "A shape moves to the right."}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(request.partition("content-length:")[2].partition("\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(answer_seconds)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=1 << 22, backlog=256)
    connection.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
