"""Typed settings, error classes and one file per environment; imports no other project package."""
