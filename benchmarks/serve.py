"""How many requests assay serve answers, how fast, in which memory, and what attacks cost other clients.

    python benchmarks/serve.py --model MODEL --image FILE [--requests 2000] [--attack-s 20] [--minutes 10]

Requests over kept connections on this machine, by 1, 8 and 32 clients at once: one image file each, and
tritonclient's with one image each as JSON and as binary tensors. Then a small image is sent every 50 ms while
another client attacks: fifteen bodies of nested lists, forms of 64 black images of 25 megapixels, and images
that crash their decoder or never end (planted: known decoders do neither). At last, for some minutes, all of
it at once. Results go to benchmarks/results/serve.json.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from io import BytesIO
from itertools import count, cycle
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import psutil
from _shared import keep, write_results
from PIL import Image

HERE = Path(__file__).parent
AT_ONCE = (1, 8, 32)
EVERY_S = 0.05
SPAWN = multiprocessing.get_context("spawn")
PLANTED = (
    "import assay.serve.app as app, misbehaving; app.decode = misbehaving.decode_or_behave; "
    "from assay.cli.app import main; main()"
)
"""The service with a decoder that does what planted files say."""

Ask = Callable[[], Awaitable[object]]
"""Sends one request; its status."""


def main() -> None:
    """Serve, ask, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2_000, help="at each concurrency")
    parser.add_argument("--attack-s", type=float, default=20, help="seconds of each attack")
    parser.add_argument("--minutes", type=float, default=0, help="of everything at once")
    asked = parser.parse_args()
    small = asked.image.read_bytes()
    write_results("serve", {})
    with serving(asked.model) as (process, port):
        asyncio.run(measure(image_clients(port, small), 8, 50))  # warms up
        memory = [resident_mib(process)]
        ways = {"image": image_clients(port, small)}
        ways |= {way: triton_clients(port, binary=way == "binary") for way in ("json", "binary")}
        for way, clients in ways.items():
            keep("serve", way, {str(n): asyncio.run(measure(clients, n, asked.requests)) for n in AT_ONCE})
        keep("serve", "mib_before_and_after", {"mib": [*memory, resident_mib(process)]})
    parts = {name: ([number], asked.attack_s) for number, name in enumerate(ATTACKS)}
    if asked.minutes:
        parts["mixed"] = ([*range(len(ATTACKS) + 1)], 60 * asked.minutes)
    for name, (numbers, seconds) in parts.items():
        with serving(asked.model) as (process, port):
            keep("serve", name, asyncio.run(attacked(process, port, small, numbers, seconds)))


@contextlib.contextmanager
def serving(model: Path) -> Iterator[tuple[psutil.Popen, int]]:
    """The service as a process, and its port; it must end within its time-out."""
    path = os.pathsep.join([str(HERE.parent / "tests" / "support"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", PLANTED, "serve", str(model), "--port", "0", "-q", "--name", "m"]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    try:
        yield process, int(process.stdout.readline().rpartition(":")[2])
        process.terminate()
        print(f"exit code {process.wait(timeout=40)}", file=sys.stderr)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def resident_mib(process: psutil.Process) -> int:
    """Memory that a process and its workers hold."""
    held = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            held += one.memory_info().rss
    return held // 2**20


# --- clients -------------------------------------------------------------------------------------------

Clients = Callable[[], contextlib.AbstractAsyncContextManager[Ask]]


def image_clients(port: int, body: bytes) -> Clients:
    """Each sends the image file over a connection of its own."""

    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[Ask]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = head(port, "/predict", len(body)) + body

        async def ask() -> object:
            writer.write(request)
            return await read_answer(reader)

        yield ask
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    return client


def triton_clients(port: int, *, binary: bool) -> Clients:
    """Each sends one random image by tritonclient, which must get its probabilities."""
    from tritonclient.http.aio import InferenceServerClient, InferInput, InferRequestedOutput
    from tritonclient.utils import InferenceServerException

    @contextlib.asynccontextmanager
    async def client() -> AsyncIterator[Ask]:
        async with InferenceServerClient(f"127.0.0.1:{port}") as one:
            (tensor,) = (await one.get_model_metadata("m"))["inputs"]
            shape = [1, *tensor["shape"][1:]]
            images = InferInput(tensor["name"], shape, tensor["datatype"])
            pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
            images.set_data_from_numpy(pixels, binary_data=binary)
            wanted = [InferRequestedOutput("probabilities", binary_data=binary)]

            async def ask() -> object:
                try:
                    answer = await one.infer("m", [images], outputs=wanted)
                except InferenceServerException as error:
                    return error.status()
                return 200 if abs(answer.as_numpy("probabilities").sum() - 1) < 0.01 else "wrong"

            yield ask

    return client


async def measure(clients: Clients, at_once: int, requests: int) -> dict[str, Any]:
    """Requests a second, and the milliseconds that they took."""
    took, statuses, left = list[float](), Counter[str](), iter(range(requests))

    async def one_client() -> None:
        async with clients() as ask:
            for _ in left:
                start = time.perf_counter()
                statuses[str(await ask())] += 1
                took.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(one_client() for _ in range(at_once)))
    seconds = time.perf_counter() - start
    return {"a_second": round(requests / seconds), "statuses": statuses, **quantiles_ms(took)}


def quantiles_ms(took: Sequence[float]) -> dict[str, float]:
    """Milliseconds that half and most requests took at most."""
    return {f"p{q}_ms": round(1000 * float(np.quantile(took, q / 100)), 1) for q in (50, 95, 99)}


def head(port: int, path: str, length: int, kind: str = "application/octet-stream") -> bytes:
    """The first lines of a request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer."""
    answer = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return int(answer.split()[1])


# --- attacks -------------------------------------------------------------------------------------------

Attack = tuple[int, Iterator[tuple[str, str, bytes]]]
"""Connections, and the path, type and body of each request."""


def nested_lists() -> Attack:
    """Fifteen bodies of 15 MB, half of them lists in lists."""
    path = "/v2/models/m/infer"
    tensor = '{"inputs":[{"name":"images","shape":[1,96,96,3],"datatype":"UINT8","data":'
    many, deep = "[" + "[[[]]]," * 2_140_000 + "1]", "[" * 15_000_000
    bodies = [f"{tensor}{data}}}]}}".encode() for data in (many, deep)]
    return 15, ((path, "application/json", body) for body in cycle(bodies))


def black_forms() -> Attack:
    """Forms of 64 black PNGs of 5,000 by 5,000 pixels, 4.7 MB each."""
    buffer = BytesIO()
    Image.new("RGB", (5000, 5000)).save(buffer, "PNG")
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + buffer.getvalue()
    body = b"\r\n".join([part] * 64 + [b"--x--\r\n"])
    return 2, cycle([("/predict", "multipart/form-data; boundary=x", body)])


def black_images() -> Attack:
    """The same images, each alone."""
    buffer = BytesIO()
    Image.new("RGB", (5000, 5000)).save(buffer, "PNG")
    return 8, cycle([("/predict", "image/png", buffer.getvalue())])


def bad_decoders() -> Attack:
    """Two clients of three send images whose decoder never ends, the third those that crash it."""
    return 3, (("/predict", "image/png", b"crash" if n % 3 else b"loop:%d" % n) for n in count())


def good_images(small: bytes) -> Attack:
    """Four clients that send the small image."""
    return 4, cycle([("/predict", "image/png", small)])


ATTACKS: dict[str, Callable[[], Attack]] = {
    "nested_lists": nested_lists,
    "black_forms": black_forms,
    "black_images": black_images,
    "bad_decoders": bad_decoders,
}


def attack(
    port: int, number: int, seconds: float, small: bytes, answers: "multiprocessing.Queue[str]"
) -> None:
    """In a process of its own, so that the other client is not slowed: one attack for some seconds.

    Parameters
    ----------
    number : of the attack; one beyond them is good images
    answers : a queue that gets each status
    """
    connections, requests = [*ATTACKS.values(), lambda: good_images(small)][number]()
    end = time.perf_counter() + seconds

    async def attacker() -> None:
        while time.perf_counter() < end:
            path, kind, body = next(requests)
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head(port, path, len(body), kind))
                writer.write(body)
                answers.put(str(await asyncio.wait_for(read_answer(reader), 60)))
                writer.close()
            except (OSError, EOFError, TimeoutError) as error:
                answers.put(type(error).__name__)

    async def attackers() -> None:
        await asyncio.gather(*(attacker() for _ in range(connections)))

    asyncio.run(attackers())


async def attacked(
    process: psutil.Popen, port: int, small: bytes, numbers: Sequence[int], seconds: float
) -> dict[str, Any]:
    """Milliseconds that a small image and a health check take meanwhile, and the memory until it is over."""
    took, ready_took, lost = list[float](), list[float](), Counter[str]()
    queue = SPAWN.Queue()
    attackers = [SPAWN.Process(target=attack, args=(port, n, seconds, small, queue)) for n in numbers]
    memory = [resident_mib(process)]

    async def small_request(path: str, body: bytes, times: list[float]) -> None:
        start = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            request = head(port, path, len(body)) + body
            writer.write(request if body else request.replace(b"POST", b"GET"))
            status = await asyncio.wait_for(read_answer(reader), 60)
            writer.close()
            if status != 200:
                lost[f"{path} {status}"] += 1
        except (OSError, EOFError, TimeoutError) as error:
            lost[f"{path} {type(error).__name__}"] += 1
        times.append(time.perf_counter() - start)

    for one in attackers:
        one.start()
    answers = Counter([await asyncio.to_thread(queue.get)])  # the attack has begun
    end = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        while time.perf_counter() < end and any(one.is_alive() for one in attackers):
            group.create_task(small_request("/predict", small, took))
            if len(took) % 10 == 0:
                group.create_task(small_request("/v2/health/ready", b"", ready_took))
            if time.perf_counter() > end - seconds + 60 * len(memory):
                memory.append(resident_mib(process))
            await asyncio.sleep(EVERY_S)
    while any(one.is_alive() for one in attackers) or not queue.empty():
        with contextlib.suppress(Empty):
            answers[await asyncio.to_thread(queue.get, True, 1)] += 1
    await asyncio.sleep(2)
    memory.append(resident_mib(process))
    return {
        "small_requests": len(took),
        "not_200": lost,
        **quantiles_ms(took),
        "max_ms": round(1000 * max(took)),
        "ready_p99_ms": quantiles_ms(ready_took)["p99_ms"],
        "answers_of_the_attack": answers,
        "mib_each_minute": memory,
    }


if __name__ == "__main__":
    main()
