"""Both runtimes on the tiny model, against each other and against the plain reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import pytest

from conf.errors import EnvironmentFault, ModelError
from models.captioner import Captioner, CaptionerConfig, load_captioner
from models.decoding import DecodingParameters
from models.keras_engine import choose_device
from models.package import WEIGHTS, ModelPackage
from models.runtime import (
    Caption,
    CaptionRuntime,
    Encoded,
    Precision,
    Runtime,
    load_runtime,
)
from tests.fresh_python import run_script
from tests.reference_decoding import decode_plainly
from tests.tiny_model import random_pixels

IMAGES = random_pixels(70, seed=3)
ENGINES: list[tuple[Runtime, Precision]] = [
    ("openvino", "float32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("keras", "float32"),
]


class Loader(Protocol):
    def __call__(
        self, runtime: Runtime, precision: Precision, beam_width: int
    ) -> CaptionRuntime: ...


@pytest.fixture(scope="module")
def load(tiny_package: ModelPackage) -> Loader:
    """Load each runtime once."""

    @cache
    def load_once(runtime: Runtime, precision: Precision, beam_width: int) -> CaptionRuntime:
        return load_runtime(
            tiny_package, runtime=runtime, precision=precision, beam_width=beam_width
        )

    return load_once


def plain_captions(package: ModelPackage, beam_width: int, *, images: int) -> list[str]:
    """Captions by the uncached model, one image and one prefix at a time."""
    model = load_captioner(CaptionerConfig(**package.config.captioner), package.file(WEIGHTS))
    found = []
    for pixels in IMAGES[:images]:
        features = model.encode(pixels[None].astype(np.float32))
        decoded = decode_plainly(
            partial(_following, model, features),
            package.decoding(beam_width=beam_width),
            max_length=model.config.max_length - 1,
        )
        found.append(package.tokenizer.decode(decoded.tokens))
    return found


def _following(model: Captioner, features: Any, prefix: list[int]) -> list[float]:
    inputs = {"features": features, "tokens": np.array([prefix], np.int32)}
    logits = np.asarray(model(inputs))[0, -1].astype(np.float64)
    return list(logits - np.log(np.exp(logits).sum()))


@pytest.mark.parametrize("beam_width", [1, 3])
def test_captions_are_those_of_the_plain_reference(
    tiny_package: ModelPackage, load: Loader, beam_width: int
) -> None:
    expected = plain_captions(tiny_package, beam_width, images=4)
    for runtime in ("openvino", "keras"):
        found = load(runtime, "float32", beam_width).caption(IMAGES[:4])
        assert [caption.text for caption in found] == expected


@pytest.mark.parametrize("beam_width", [1, 3])
def test_both_runtimes_say_the_same(load: Loader, beam_width: int) -> None:
    by_keras = load("keras", "float32", beam_width).caption(IMAGES)
    by_openvino = load("openvino", "float32", beam_width).caption(IMAGES)
    assert [one.text for one in by_openvino] == [one.text for one in by_keras]
    scores = [one.score for one in by_keras]
    assert [one.score for one in by_openvino] == pytest.approx(scores, rel=1e-3)


@pytest.mark.parametrize("beam_width", [1, 3])
@pytest.mark.parametrize(("runtime", "precision"), ENGINES)
def test_captions_are_the_same_at_batch_sizes_1_7_and_64(
    load: Loader, runtime: Runtime, precision: Precision, beam_width: int
) -> None:
    loaded = load(runtime, precision, beam_width)

    def in_batches_of(size: int) -> list[Caption]:
        parts = [IMAGES[first : first + size] for first in range(0, 21, size)]
        return [caption for part in parts for caption in loaded.caption(part)][:21]

    alone = in_batches_of(1)
    for captions in (in_batches_of(7), in_batches_of(64)):
        assert [one.text for one in captions] == [one.text for one in alone]
        # A row's place in a matrix decides its last bits on some CPUs.
        assert [one.score for one in captions] == pytest.approx([one.score for one in alone], 1e-5)


def test_captions_speak_of_their_images(load: Loader) -> None:
    texts = [caption.text for caption in load("openvino", "float32", 1).caption(IMAGES)]
    assert len(set(texts)) > len(texts) // 2
    assert len({len(text.split()) for text in texts}) > 3


def test_a_rerun_says_exactly_the_same(load: Loader, tiny_package: ModelPackage) -> None:
    first = load("openvino", "int8", 1).caption(IMAGES)
    assert load_runtime(tiny_package).caption(IMAGES) == first


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_number_of_threads_changes_nothing(
    load: Loader, tiny_package: ModelPackage, precision: Precision
) -> None:
    with_one = load("openvino", precision, 1).caption(IMAGES)
    assert load_runtime(tiny_package, precision=precision, threads=3).caption(IMAGES) == with_one


def test_no_images_have_no_captions(load: Loader) -> None:
    assert load("openvino", "int8", 1).caption(IMAGES[:0]) == []


@pytest.mark.parametrize("beam_width", [1, 3, 5])
def test_each_image_is_encoded_once_whatever_the_beam(
    tiny_package: ModelPackage, beam_width: int
) -> None:
    runtime = load_runtime(tiny_package, beam_width=beam_width)
    encoded: list[int] = []

    class CountingEngine:
        generate = staticmethod(runtime._engine.generate)

        def halve(self) -> bool:
            return False

        def encode(self, pixels: Any) -> Encoded:
            encoded.append(len(pixels))
            return engine.encode(pixels)

    engine = runtime._engine
    runtime._engine = CountingEngine()
    runtime.caption(IMAGES)
    assert encoded == [len(IMAGES)]


def test_quantized_captions_stay_near(load: Loader) -> None:
    exact = load("openvino", "float32", 1).encode(IMAGES)
    rough = load("openvino", "int8", 1).encode(IMAGES).astype(np.uint32) << 16
    error = np.linalg.norm(rough.view(np.float32) - exact) / np.linalg.norm(exact)
    assert error < 0.25


def test_openvino_needs_neither_keras_nor_tensorflow(tiny_package: ModelPackage) -> None:
    script = (
        "import sys; from models.package import open_package;"
        "from models.runtime import load_runtime;"
        f"load_runtime(open_package({str(tiny_package.directory)!r}));"
        "print([m for m in ('keras', 'tensorflow', 'nncf', 'mlflow') if m in sys.modules])"
    )
    assert run_script(script) == "[]"


def test_jax_says_what_tensorflow_says(tiny_package: ModelPackage, load: Loader) -> None:
    pytest.importorskip("jax", reason="install the dev extra, which brings jax")
    script = (
        "import json, tests.tiny_model as tiny; tiny.register_encoder();"
        "from models.package import open_package;"
        "from models.runtime import load_runtime;"
        f"package = open_package({str(tiny_package.directory)!r});"
        "runtime = load_runtime(package, runtime='keras', precision='float32', beam_width=3);"
        "print(json.dumps([c.text for c in runtime.caption(tiny.random_pixels(70, seed=3))]))"
    )
    said = json.loads(run_script(script, KERAS_BACKEND="jax"))
    assert said == [one.text for one in load("keras", "float32", 3).caption(IMAGES)]


class SmallDevice:
    """Runs out of memory whenever a compiled function gets more rows than it has room for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.refused: list[int] = []

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import tensorflow as tf

        run = tf.function(function)

        def guarded(first: Any, *others: Any) -> Any:
            if len(first) > self.room:
                self.refused.append(len(first))
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return run(first, *others)

        return guarded


def test_batches_halve_until_they_fit_the_devices_memory(
    tiny_package: ModelPackage, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load("keras", "float32", 1).caption(IMAGES)
    device = SmallDevice(room=16)
    monkeypatch.setattr("models.keras_engine.compiled", device.compiled)
    runtime = load_runtime(tiny_package, runtime="keras", precision="float32")
    assert [one.text for one in runtime.caption(IMAGES)] == [one.text for one in expected]
    assert device.refused == [64, 32]


def test_what_does_not_fit_even_alone_is_an_error(
    tiny_package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SmallDevice(room=0)
    monkeypatch.setattr("models.keras_engine.compiled", device.compiled)
    runtime = load_runtime(tiny_package, runtime="keras", precision="float32")
    with pytest.raises(Exception, match="OOM"):
        runtime.caption(IMAGES[:3])


def test_a_missing_gpu_is_an_error(tiny_package: ModelPackage) -> None:
    with pytest.raises(EnvironmentFault, match="A GPU was asked for"):
        load_runtime(tiny_package, runtime="keras", precision="float32", device="gpu")


def test_a_process_that_holds_a_gpu_is_refused_another(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf  # noqa: F401  # from here on the process keeps what it sees

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(EnvironmentFault, match="holds GPU 0 was given GPU 1"):
        choose_device("gpu:1")


def test_openvino_refuses_a_gpu(tiny_package: ModelPackage) -> None:
    with pytest.raises(ModelError, match="doesn't run on gpu"):
        load_runtime(tiny_package, device="gpu")


def test_keras_has_no_int8(tiny_package: ModelPackage) -> None:
    with pytest.raises(ModelError, match="no int8 form"):
        load_runtime(tiny_package, runtime="keras", precision="int8")


def test_parameters_of_the_package_are_used(tiny_package: ModelPackage) -> None:
    assert tiny_package.decoding(beam_width=4) == DecodingParameters(beam_width=4)


def test_a_beam_of_16_fits(load: Loader) -> None:
    assert len(load("openvino", "float32", 16).caption(IMAGES[:5])) == 5
