"""One short name for everything that decides a caption, except the image itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from models.package import ModelPackage


def pipeline_version(package: ModelPackage, *, beam_width: int, precision: str) -> str:
    """First 16 hex digits of SHA-256 over model, preprocessing, decoding and precision.

    Device, batch size, paths and library versions stay out: they must not change captions.
    """
    identity = {
        "model": package.version,
        "preprocessing": package.config.preprocessing_fingerprint,
        "decoding": asdict(package.decoding(beam_width=beam_width)),
        "precision": precision,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]
