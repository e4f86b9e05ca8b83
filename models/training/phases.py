"""What every trainer does around its phases: where it starts, resumes, stops and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from conf.errors import ModelError
from models.captioner import Captioner
from models.tokenizer import Tokenizer
from models.training.checkpoint import CHECKPOINT, Progress, read_progress
from models.training.plan import Phase, TrainingPlan
from models.training.reports import EpochReport, Listener
from models.training.shards import Shards
from models.training.weights import BEST, digest_weights, save_weights_whole


class Stopped(Exception):
    """The training was asked to stop within work that leaves no checkpoint."""


class PhasedTrainer(ABC):
    """Runs the phases of a plan and leaves the model with the best weights on dev."""

    def __init__(
        self,
        model: Captioner,
        tokenizer: Tokenizer,
        *,
        plan: TrainingPlan,
        train: Shards,
        dev: Shards,
        directory: Path,
        listener: Listener,
        starts_trained: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train a model; one that ``starts_trained`` stays as it is if nothing better comes."""
        self.model, self.tokenizer, self.plan = model, tokenizer, plan
        self._starts_trained = starts_trained
        self.train, self.dev, self.directory = train, dev, directory
        self.listener, self.is_stopping = listener, is_stopping
        self.best_path, self.checkpoint_path = directory / BEST, directory / CHECKPOINT
        # What the training starts from, and the precision it computes in.
        start = "\n".join([model.compute_dtype, *tokenizer.words])
        self._origin = digest_weights(model, beside=start)
        self._prepare()

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written by, to be gone on with."""
        data = self.train.fingerprint + self.dev.fingerprint
        return self._origin + self.plan.to_json() + self.model.config.to_json() + data

    def run(self) -> Progress:
        """Train through all phases; ends early, with a checkpoint, when ``is_stopping``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        progress = read_progress(self.checkpoint_path, identity=self.identity)
        resumed = progress is not None
        progress = progress or Progress()
        with suppress(Stopped):
            self._finish_phases(progress, resumed=resumed)
        if self.best_path.exists():
            self.model.load_weights(str(self.best_path))
        return progress

    def check(self) -> None:
        """Raise Stopped, which `run` takes for its end, where the training is to stop."""
        if self.is_stopping():
            raise Stopped

    def _finish_phases(self, progress: Progress, *, resumed: bool) -> None:
        if not resumed:
            progress.best = self._begin()
        while progress.phase < len(self.plan.phases) and not self.is_stopping():
            self._finish_phase(self.plan.phases[progress.phase], progress, resumed=resumed)
            resumed = False

    def _begin(self) -> float:
        """Return the dev CIDEr to beat, and keep the weights that reach it."""
        if not self._starts_trained:
            return Progress.best
        figures, captions = self._describe_start()
        save_weights_whole(self.model, self.best_path)
        self.listener.on_epoch(EpochReport("initial model", 0, 0, figures, True, captions))
        return figures["cider"]

    def refuse_divergence(self, phase: Phase, *, is_finite: bool) -> None:
        """Raise ModelError where the loss or a weight of a phase isn't finite."""
        if not is_finite:
            option = f"--{phase.kind.replace('_', '-')}-rate"
            raise ModelError(
                f"The {phase.kind} phase diverged: its loss or weights aren't finite any more.",
                remedy=f"Remove {self.directory}, or choose another --output, and start anew with "
                f"a lower {option}.",
            )

    @abstractmethod
    def _prepare(self) -> None:
        """Set up what this trainer needs besides."""

    @abstractmethod
    def _describe_start(self) -> tuple[dict[str, float], list[str]]:
        """Dev figures and captions of the model as it is handed in."""

    @abstractmethod
    def _finish_phase(self, phase: Phase, progress: Progress, *, resumed: bool) -> None:
        """Take a phase from where progress says to its end, or to a stop."""
