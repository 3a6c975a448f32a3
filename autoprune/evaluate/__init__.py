"""Recipe -> TrialRecord: runs the stages in order."""

from autoprune.evaluate.candidate import Candidate
from autoprune.evaluate.evaluator import SCREEN_SAMPLES, Evaluator, Screen
from autoprune.evaluate.faults import out_of_space
from autoprune.evaluate.inputs import as_arrays, timing_inputs

__all__ = ["SCREEN_SAMPLES", "Candidate", "Evaluator", "Screen", "as_arrays", "out_of_space", "timing_inputs"]
