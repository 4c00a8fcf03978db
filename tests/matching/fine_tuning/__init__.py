"""Tests of training an encoder."""
