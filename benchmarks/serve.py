"""How many requests assay serve answers, how fast, and whether its memory stays flat.

    python benchmarks/serve.py --model MODEL --image FILE [--requests 2000]

Requests of one image file each over kept connections on this machine, by 1, 8 and 32 at once; each must be
answered 200. Results go to benchmarks/results/serve.json.
"""

import argparse
import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
from _shared import ASSAY, machine, write_results

AT_ONCE = (1, 8, 32)


def main() -> None:
    """Serve, ask, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=2_000, help="at each concurrency")
    asked = parser.parse_args()
    command = [str(ASSAY), "serve", str(asked.model), "--port", "0", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    body = asked.image.read_bytes()
    asyncio.run(load(port, body, 1, 50))  # warms up
    found = {"machine": machine(), "mib_before": resident_mib(process.pid), "at_once": {}}
    for at_once in AT_ONCE:
        found["at_once"][str(at_once)] = asyncio.run(load(port, body, at_once, asked.requests))
    found["mib_after"] = resident_mib(process.pid)
    process.terminate()
    found["exit_code"] = process.wait(timeout=30)
    write_results("serve", found)
    print(json.dumps(found, indent=1))


async def load(port: int, body: bytes, at_once: int, requests: int) -> dict[str, Any]:
    """Requests a second, and the milliseconds that they took."""
    took: list[float] = []
    statuses: list[int] = []
    left = iter(range(requests))
    start = time.perf_counter()
    await asyncio.gather(*(ask(port, body, left, took, statuses) for _ in range(at_once)))
    seconds = time.perf_counter() - start
    p50, p95, p99 = (round(1000 * float(np.quantile(took, share)), 1) for share in (0.5, 0.95, 0.99))
    return {
        "requests": requests,
        "answered_200": statuses.count(200),
        "a_second": round(requests / seconds),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


async def ask(port: int, body: bytes, left: Any, took: list[float], statuses: list[int]) -> None:
    """One connection, one request after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in left:
        start = time.perf_counter()
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.partition(b":")[2]))
        took.append(time.perf_counter() - start)
        statuses.append(int(answer.split()[1]))
    writer.close()
    await writer.wait_closed()


def resident_mib(pid: int) -> int:
    """Memory that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) // 1024


if __name__ == "__main__":
    main()
