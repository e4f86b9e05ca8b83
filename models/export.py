"""The captioner as OpenVINO graphs: an encoder (pixels to what the decoder looks at) and a step.

Shapes as in `models.captioner`. Batch dimensions stay open; the engine fixes them when it loads.
Every key and value tensor is an input or output of its own, because slicing a stacked one costs a
copy in each of thousands of steps.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import openvino as ov
import openvino.opset13 as opset
from keras import ops
from openvino.preprocess import PrePostProcessor

from models import graph_names as names
from models.captioner import Captioner

Tensor = Any


class EncoderPart(keras.Model):
    """pixels [B, S, S, 3] to keys and values per decoder layer, each [B, h, N, Dh]."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.captioner = captioner
        self.built = True

    def call(self, pixels: Tensor) -> list[Tensor]:
        """Encode, look, and project once for every layer."""
        cells = self.captioner.cells(self.captioner.encode(pixels))
        return [part for layer in self.captioner.cross_layers for part in layer.pair(cells)]


class DecoderPart(keras.Model):
    """One token per row, each row at a position of its own."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.captioner = captioner
        self.built = True

    def call(self, tokens: Tensor, positions: Tensor, *memory: Tensor) -> list[Tensor]:
        """Log-probabilities [B, V], then the new key and value [B, h, 1, Dh] of each layer.

        ``tokens`` and ``positions`` are int32 [B]; ``memory`` is, per layer, the cached keys and
        values [B, h, T, Dh] and then those of the image [B, h, N, Dh].
        """
        model = self.captioner
        places = ops.arange(model.config.max_length, dtype="int32")
        earlier = (places[None, :] < positions[:, None])[:, None, None, :]
        hidden = model.embed(tokens, ops.take(model.position, positions, axis=0))[:, None]
        added = []
        for number, layer in enumerate(model.decoder_layers):
            cache, cross = list(memory[4 * number :][:2]), list(memory[4 * number + 2 :][:2])
            hidden, key, value = layer.extend(hidden, earlier, cache, cross)
            added += [key, value]
        return [ops.log_softmax(model.project(hidden)[:, 0], axis=-1), *added]


def convert_encoder(captioner: Captioner) -> ov.Model:
    """Graph of `EncoderPart`, taking uint8 pixels; outputs keys_0, values_0, keys_1 and so on."""
    side = captioner.config.image_size
    graph = _convert(EncoderPart(captioner), [_rows_of(names.PIXELS, side, side, 3)])
    _name_outputs(graph, names.memory_names(captioner.config.depth))
    processor = PrePostProcessor(graph)
    processor.input(names.PIXELS).tensor().set_element_type(ov.Type.u8)
    return processor.build()


def convert_decoder(captioner: Captioner) -> ov.Model:
    """Graph of `DecoderPart` with every input and output named."""
    graph = _convert(DecoderPart(captioner), list(_decoder_inputs(captioner)))
    added = names.added_names(captioner.config.depth)
    _name_outputs(graph, [names.LOG_PROBABILITIES, *added])
    return graph


def save_graph(graph: ov.Model, path: Path) -> None:
    """Write .xml and .bin, constants in half precision wherever that loses nothing.

    OpenVINO's own compression rounds scalars too, such as the scale of attention, after which
    the graph is no longer the Keras model.
    """
    for node in graph.get_ops():
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.f32:
            _halve_exactly(node)
    ov.save_model(graph, path, compress_to_fp16=False)


def _halve_exactly(constant: ov.Node) -> None:
    values = constant.get_data()
    halved = values.astype(np.float16)
    if values.size < 2 or not np.array_equal(halved.astype(np.float32), values):
        return
    restored = opset.convert(opset.constant(halved), "f32")
    for reader in constant.output(0).get_target_inputs():
        reader.replace_source_output(restored.output(0))


def _name_outputs(graph: ov.Model, tensor_names: list[str]) -> None:
    for output, name in zip(graph.outputs, tensor_names, strict=True):
        output.tensor.set_names({name})


def _decoder_inputs(captioner: Captioner) -> list[keras.InputSpec]:
    config = captioner.config
    head_width = config.width // config.heads
    cached = names.cache_names(config.depth)
    seen = names.memory_names(config.depth)
    ordered = [name for at in range(0, len(seen), 2) for name in (*cached[at:][:2], *seen[at:][:2])]
    places = {
        **dict.fromkeys(cached, config.max_length),
        **dict.fromkeys(seen, captioner.grid_cells),
    }
    return [
        *(_rows_of(name, dtype="int32") for name in (names.TOKENS, names.POSITIONS)),
        *(_rows_of(name, config.heads, places[name], head_width) for name in ordered),
    ]


def _rows_of(name: str, *shape: int, dtype: str = "float32") -> keras.InputSpec:
    return keras.InputSpec(shape=(None, *shape), dtype=dtype, name=name)


def _convert(part: keras.Model, inputs: list[keras.InputSpec]) -> ov.Model:
    """Export with Keras, and drop the shape arithmetic that it leaves among the outputs."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "part.xml")
        part.export(path, format="openvino", input_signature=inputs, verbose=False)
        graph = ov.Core().read_model(path)
        results = sorted(
            (_result_number(output), output.get_node())
            for output in graph.outputs
            if _result_number(output) is not None
        )
        return ov.Model([node for _, node in results], graph.get_parameters()).clone()


def _result_number(output: ov.Output) -> int | None:
    """TensorFlow names a function's results Identity, Identity_1 and so on."""
    for name in output.get_names():
        head, _, tail = name.removesuffix(":0").partition("Identity")
        if not head and (not tail or tail.removeprefix("_").isdigit()):
            return int(tail.removeprefix("_") or 0)
    return None
