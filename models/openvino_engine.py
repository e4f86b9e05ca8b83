"""The captioner on OpenVINO: CPU executors. Never imports Keras or TensorFlow.

Shapes: E images encoded at once, R rows decoded at once (both fixed), B images asked for, S image
side, L decoder layers, h heads, N grid cells, T places of a cache, Dh width of a head,
V vocabulary size. Keys and values are float32, or bfloat16 held as the bits in uint16.

Tensors are bound once and share memory with NumPy, so that a step costs no copies but the new
keys and values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino.preprocess import PrePostProcessor

from conf.errors import ModelError
from models import graph_names as names
from models.decoding import Floats, Indices, Memory, Tokens
from models.lanes import in_lanes
from models.package import ModelPackage

# Measured on the default model: larger encoder batches gain nothing, smaller ones lose.
ENCODE_BATCH = 8
ROWS = 64


class Plan(NamedTuple):
    """What a precision means: which encoder, and the arithmetic of all that is not int8."""

    encoder: str
    arithmetic: ov.Type


PLANS = {
    "float32": Plan(names.ENCODER, ov.Type.f32),
    "bf16": Plan(names.ENCODER, ov.Type.bf16),
    "int8": Plan(names.QUANTIZED_ENCODER, ov.Type.bf16),
}


class OpenVinoEngine:
    """`models.generation.SteppedEngine`; one thread at a time may use it.

    Each of its own threads works at a chunk of images alone, so that their number changes nothing
    that is said.
    """

    def __init__(self, package: ModelPackage, *, precision: str, threads: int) -> None:
        plan = PLANS[precision]
        compiler = _Compiler(plan.arithmetic, threads)
        self._memory_names = names.memory_names(int(package.config.captioner["depth"]))
        encoder = compiler.compile(_graph_file(package, plan.encoder), rows=ENCODE_BATCH)
        self._encoders = [_Request(encoder) for _ in range(threads)]
        decoder = compiler.compile(_graph_file(package, names.DECODER), rows=ROWS)
        self.decoders = [OpenVinoDecoder(_Request(decoder), package) for _ in range(threads)]

    def halve(self) -> bool:
        """Never: batches are small already, and the CPU's memory is the worker's own matter."""
        return False

    def encode(self, pixels: npt.NDArray[np.uint8]) -> Memory:
        """Keys and values [2L, B, h, N, Dh] that the decoder looks at; pixels [B, S, S, 3]."""
        count = len(pixels)
        padded = -(-count // ENCODE_BATCH) * ENCODE_BATCH
        output = self._encoders[0].port(self._memory_names[0])
        memory = _empty(output, (len(self._memory_names), padded, *list(output.shape)[1:]))

        def encode_chunk(encoder: _Request, first: int) -> None:
            chunk = slice(first, first + ENCODE_BATCH)
            encoder.bind(names.PIXELS, _pad(pixels[chunk], ENCODE_BATCH))
            for name, part in zip(self._memory_names, memory, strict=True):
                encoder.bind(name, part[chunk])
            encoder.infer()

        in_lanes(encode_chunk, self._encoders, range(0, padded, ENCODE_BATCH))
        return memory[:, :count]


class OpenVinoDecoder:
    """`models.decoding.StepBackend` over a compiled decoder graph."""

    def __init__(self, step: _Request, package: ModelPackage) -> None:
        depth = int(package.config.captioner["depth"])
        self.rows = ROWS
        self.max_length = package.config.max_length - 1  # <end> is never fed back
        self._step = step
        self._memory_names = names.memory_names(depth)
        self._memory = self._bind_all(self._memory_names)
        self._cache = self._bind_all(names.cache_names(depth))
        self._added = self._bind_all(names.added_names(depth))
        self._tokens = step.bind_new(names.TOKENS)
        self._positions = step.bind_new(names.POSITIONS)
        self._following = step.bind_new(names.LOG_PROBABILITIES)
        self._seen = 0

    def _bind_all(self, tensor_names: list[str]) -> list[npt.NDArray[Any]]:
        return [self._step.bind_new(name) for name in tensor_names]

    def begin(self, memory: Memory, *, copies: int) -> None:
        """Start a group; see `StepBackend`. A full group is read where it lies."""
        self._seen = 0
        whole = copies == 1 and memory.shape[1] == self.rows
        for name, own, part in zip(self._memory_names, self._memory, memory, strict=True):
            if not whole:
                own[: len(part) * copies] = np.repeat(part, copies, axis=0)
            self._step.bind(name, part if whole else own)

    def step(self, tokens: Tokens, *, position: int) -> Floats:
        """Log-probabilities [R, V]; see `StepBackend`."""
        self._tokens[:] = tokens
        self._positions[:] = position
        self._step.infer()
        for cache, added in zip(self._cache, self._added, strict=True):
            cache[:, :, position] = added[:, :, 0]
        self._seen = position + 1
        return self._following

    def reorder(self, sources: Indices) -> None:
        """Let row r continue row sources[r]; see `StepBackend`."""
        for cache in self._cache:
            cache[:, :, : self._seen] = cache[sources, :, : self._seen]


class _Request:
    """One use at a time of a compiled graph; its tensors are NumPy arrays."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self._ports = {port.any_name: port for port in (*compiled.inputs, *compiled.outputs)}
        self._bound: dict[str, npt.NDArray[Any]] = {}

    def port(self, name: str) -> Any:
        return self._ports[name]

    def bind(self, name: str, array: npt.NDArray[Any]) -> None:
        """Let the graph read or write an array [the port's shape], C-contiguous, from now on."""
        port = self._ports[name]
        self._request.set_tensor(port, ov.Tensor(array, port.shape, port.element_type))
        self._bound[name] = array  # OpenVINO doesn't keep it alive

    def bind_new(self, name: str) -> npt.NDArray[Any]:
        """Bind zeros of the port's shape, and return them."""
        array = _empty(self._ports[name], tuple(self._ports[name].shape))
        array[...] = 0
        self.bind(name, array)
        return array

    def infer(self) -> None:
        self._request.infer()


class _Compiler:
    """Compiles graphs for this CPU with everything fixed that could change a result."""

    def __init__(self, arithmetic: ov.Type, threads: int) -> None:
        self._arithmetic = arithmetic
        self._core = ov.Core()
        self._options = {
            "INFERENCE_PRECISION_HINT": arithmetic.get_type_name(),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "INFERENCE_NUM_THREADS": threads,
            # A thread for each chunk: threads that share one wait for each other in every layer.
            "NUM_STREAMS": threads,
            # Pinning puts every process on the same cores: two workers run at half speed.
            "ENABLE_CPU_PINNING": False,
        }

    def compile(self, path: Path, *, rows: int) -> ov.CompiledModel:
        """Fix the batch dimension of every input and compile; raises ModelError."""
        try:
            graph = self._core.read_model(path)
            graph.reshape({port.any_name: [rows, *port.partial_shape[1:]] for port in graph.inputs})
            graph = self._keep_narrow(graph)
            return self._core.compile_model(graph, "CPU", self._options)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO can't load {path}: {str(error).strip().splitlines()[-1]}",
                remedy="Get the package again, or use --runtime keras.",
            ) from error

    def _keep_narrow(self, graph: ov.Model) -> ov.Model:
        """Keys and values travel in the arithmetic's own type: nothing is converted per step."""
        processor = PrePostProcessor(graph)
        for port in graph.inputs:
            if port.element_type == ov.Type.f32:
                processor.input(port.any_name).tensor().set_element_type(self._arithmetic)
        for port in graph.outputs:
            if port.any_name != names.LOG_PROBABILITIES:
                processor.output(port.any_name).tensor().set_element_type(self._arithmetic)
        return processor.build()


def _graph_file(package: ModelPackage, name: str) -> Path:
    package.file(Path(name).with_suffix(".bin").as_posix())
    return package.file(name)


def _empty(port: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    narrow = port.element_type == ov.Type.bf16
    return np.empty(shape, np.uint16 if narrow else port.element_type.to_dtype())


def _pad(pixels: npt.NDArray[np.uint8], batch: int) -> npt.NDArray[np.uint8]:
    if len(pixels) == batch:
        return np.ascontiguousarray(pixels)
    padded = np.zeros((batch, *pixels.shape[1:]), np.uint8)
    padded[: len(pixels)] = pixels
    return padded
