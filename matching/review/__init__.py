"""Review: which case comes next, who has a lease on it, and the verdicts of reviewers."""
