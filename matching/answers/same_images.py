"""Count practically identical images as evidence of their own.

A model of all similarities cannot know how sure the highest are: hardly any two views of a product are that alike.
Whether such images mean the same product depends on the catalogue. Some show one image for all variants.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from matching.answers.choice import CONSIDERED, Doubles, Questions, similarities_of

# The same image saved again as a JPEG of quality 75, or at half its size, has .995 in the median, and exactly equal
# pixels have 1. The most similar other image of 120 photographs of groceries has at most .988 (legacy features).
SAME = 0.995
# Counts as so many questions, in half of one of which another product had the same image.
_PRIOR_QUESTIONS, _PRIOR_SHARED = 50.0, 0.5
LOG_ODDS = math.log(_PRIOR_QUESTIONS / _PRIOR_SHARED)  # of a catalogue that was not asked yet


def same_images(similarities: Doubles) -> npt.NDArray[np.bool_]:
    """Return which similarities (0 to 1) are those of practically identical images."""
    return np.asarray(similarities >= SAME)


def learn(questions: Questions) -> float:
    """Return the log-odds that the same image adds, from how often another product of the catalogue has it."""
    others = np.arange(CONSIDERED) != questions.right[:, None]
    shared = int((same_images(similarities_of(questions.terms)) & others).any(axis=1).sum())
    share = (shared + _PRIOR_SHARED) / (len(questions) + _PRIOR_QUESTIONS)
    return max(0.0, math.log((1 - share) / share))


def with_same_images(questions: Questions, log_odds: float) -> Questions:
    """Return the questions with this evidence among the facts."""
    added = np.where(same_images(similarities_of(questions.terms)), log_odds, 0.0)
    return Questions(
        questions.terms, questions.facts + added, questions.right, questions.importance, questions.products
    )
