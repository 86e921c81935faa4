"""Suites that hold every backend of a Protocol to the same behaviour; third-party backends run them too."""
