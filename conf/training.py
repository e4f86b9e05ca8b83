"""Settings of `train_captioner`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from conf.settings import MEBIBYTE, Settings, Share

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0.0, le=1.0)]


class PairSettings(Settings):
    """Where photographs and captions come from, and which of them are for choosing."""

    images: str | None = Field(
        None, description="folder or glob of photographs on any Hadoop filesystem"
    )
    captions: str | None = Field(
        None, description="text without header, one `file<TAB>caption` per line"
    )
    pairs: str | None = Field(
        None,
        description="instead of --images and --captions: a Delta or Parquet table with the columns "
        "path, content (binary) and captions (array of text)",
    )
    train_split: str | None = Field(
        None, description="file of names to train on (default: all that are not dev)"
    )
    dev_split: str | None = Field(
        None, description="file of names to choose the best weights on (default: see --dev-share)"
    )
    dev_share: Share = Field(
        0.1, description="without --dev-split, share chosen for dev by the hash of the image"
    )
    exclusions: str | None = Field(
        None, description="lake whose withdrawn photographs are left out, by path and by bytes"
    )
    limit: Count = Field(
        0, description="train and choose on at most this many photographs each; 0 is all"
    )
    max_skipped_share: Share = Field(
        0.1, description="refuse to train when more than this share of the data is unusable"
    )
    max_file_bytes: Positive = Field(256 * MEBIBYTE, description="larger files are skipped")
    partition_files: Positive = Field(
        50,
        description="files per Spark task; their pixels pass through the driver's JVM together, "
        "several copies of them, so this bounds its memory",
    )


class NetworkSettings(Settings):
    """The network, unless --initial-model brings its own."""

    encoder: Literal["efficientnet_lite0", "inception_v3", "mobilenet_v2", "resnet50"] = Field(
        "efficientnet_lite0", description="the CNN that looks at the photograph"
    )
    encoder_weights: str = Field(
        "imagenet", description="imagenet (downloaded or from its package), none, or a file"
    )
    initial_model: str | None = Field(
        None, description="package or registry URI whose network, words and weights to go on from"
    )
    image_size: Count = Field(
        0,
        description="side of the square in pixels, at least 32, or 75 for inception_v3; "
        "0 is the encoder's own",
    )
    min_word_count: Positive = Field(4, description="words seen less often are not learnt")
    max_length: int = Field(
        22, ge=4, le=128, description="most words of a caption, plus 2; longer ones are cut"
    )
    width: Positive = Field(256, description="width of the decoder")
    depth: Positive = Field(2, description="layers of the decoder")
    heads: Positive = Field(8, description="attention heads per layer")
    ffn: Positive = Field(1024, description="inner width of feed-forward blocks")
    grid_depth: Count = Field(1, description="self-attention layers over the encoder's grid")
    dropout: float = Field(0.3, ge=0.0, lt=1.0, description="share of activations dropped")


class ScheduleSettings(Settings):
    """How long and how fast each phase learns."""

    frozen_epochs: Count = Field(8, description="epochs with the encoder frozen")
    frozen_rate: Rate = Field(1e-3, description="their highest learning rate")
    finetune_epochs: Count = Field(5, description="epochs that change the encoder's top too")
    finetune_rate: Rate = Field(4e-4, description="their highest learning rate")
    encoder_rate: Rate = Field(0.2, description="the encoder's rate relative to the decoder's")
    tuned_share: Share = Field(0.5, description="share of the encoder's layers that change")
    self_critical_epochs: Count = Field(12, description="epochs that maximise CIDEr of samples")
    self_critical_rate: Rate = Field(1e-4, description="their highest learning rate")
    samples: int = Field(5, ge=2, description="captions sampled per photograph for CIDEr")
    batch_images: Positive = Field(20, description="photographs per step, with all their captions")
    views: Positive = Field(4, description="augmented views per photograph in the feature cache")
    patience: Positive = Field(4, description="epochs without a better dev CIDEr that end a phase")
    beam_width: int = Field(3, ge=1, le=16, description="beam with which dev is captioned")
    checkpoint_steps: Positive = Field(100, description="steps between checkpoints")
    seed: int = Field(0, ge=0, le=10**6, description="decides order, augmentation and dropout")
    trainer: Literal["tensorflow", "jax"] = Field(
        "tensorflow",
        description="tensorflow streams photographs from disk; jax compiles whole passes over "
        "photographs in the memory of one GPU, where all of them must fit",
    )
    mirror: bool = Field(
        True,
        description="with --trainer jax, mirror photographs of which no caption says left or "
        "right; switch it off for captions in another language",
    )
    mixed_precision: bool = Field(False, description="train in 16-bit floats, for GPUs")


class TrainSettings(PairSettings, NetworkSettings, ScheduleSettings):
    """Settings of `train_captioner`."""

    output: str | None = Field(None, description="local folder of the new model package")
    work: str | None = Field(
        None,
        description="local folder of shards, features and checkpoints, gigabytes in all; a killed "
        "training resumes from it (default: OUTPUT-work)",
    )
    tracking_uri: str | None = Field(
        None, description="MLflow server or store; default MLFLOW_TRACKING_URI, else mlflow.db here"
    )
    name: str = Field("captioner", description="name of the model in package and registry")
    data_terms: str = Field(
        "Nothing was said of the terms of the training photographs.",
        description="terms of use that follow from the training data, for the model card",
    )
    register_model: bool = Field(True, description="register the package as a version in MLflow")
    gate_margin: float = Field(
        0.005, ge=0.0, description="dev CIDEr that a new version must gain to become champion"
    )
