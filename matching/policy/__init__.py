"""Decide cases without a person where past decisions carry the promise, and check that promise by an audit."""
