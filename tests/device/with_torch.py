# SPDX-License-Identifier: Apache-2.0
"""One process with PyTorch: torch allocates, runs and captures graphs while a session runs a plan in the same context, on
torch's streams and in torch's tensors. Each must give the bits that it gives alone.

    with_torch.py LIBRARY PLAN      LIBRARY: libedgert_device_session.so; PLAN: one float input 1x3x224x224, one output
"""

import ctypes
import sys

try:
    import torch
except ImportError:
    print("no PyTorch")
    sys.exit(77)


def torch_work(a, b):
    for _ in range(4):
        b = torch.tanh(a @ b)
    return b


def main():
    if not torch.cuda.is_available():
        print("no GPU for PyTorch")
        return 77
    library = ctypes.CDLL(sys.argv[1])
    library.edgert_device_open.restype = ctypes.c_void_p
    library.edgert_device_enqueue.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.edgert_device_close.argtypes = [ctypes.c_void_p]
    torch.manual_seed(0)
    a, b = torch.randn(512, 512, device="cuda"), torch.randn(512, 512, device="cuda")
    expected_torch = torch_work(a, b)
    x, y = torch.randn(1, 3, 224, 224, device="cuda"), torch.zeros(1000, device="cuda")
    addresses = (ctypes.c_ulonglong * 2)(x.data_ptr(), y.data_ptr())
    message = ctypes.create_string_buffer(512)
    handle = library.edgert_device_open(sys.argv[2].encode(), addresses, 2, message, len(message))
    if not handle:
        print(message.value.decode())
        return 1
    streams = [torch.cuda.current_stream(), torch.cuda.Stream()]

    def run(stream):
        error = library.edgert_device_enqueue(handle, stream.cuda_stream)
        if error:
            raise SystemExit(f"enqueue: error {error}")

    run(streams[0])
    torch.cuda.synchronize()
    expected = y.clone()
    if not expected.abs().max() > 0:
        print("the output is zero")
        return 1
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = torch_work(a, b)
    rounds = 300
    for step in range(rounds):
        stream = streams[step % 2]
        stream.wait_stream(streams[1 - step % 2])
        with torch.cuda.stream(stream):
            y.zero_()
            run(stream)
            got = torch_work(a, b)
            kept = [torch.empty((step % 7 + 1) << 20, device="cuda") for _ in range(3)]
            graph.replay()
            run(stream)
            same = torch.equal(y, expected) and torch.equal(got, expected_torch) and torch.equal(captured, expected_torch)
        del kept
        if step % 50 == 0:
            torch.cuda.empty_cache()
        if not same:
            print(f"round {step + 1}: other bits than alone")
            return 1
    library.edgert_device_close(handle)
    if not torch.equal(torch_work(a, b), expected_torch):
        print("PyTorch computes something else after the session was closed")
        return 1
    print(f"{rounds} rounds on two streams of PyTorch {torch.__version__}, in its tensors and beside its graph: the same bits")
    return 0


if __name__ == "__main__":
    sys.exit(main())
