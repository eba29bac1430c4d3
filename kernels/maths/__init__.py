"""Scalar maths that every backend compiles."""
