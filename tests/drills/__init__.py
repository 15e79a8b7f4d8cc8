"""Drills: faults from outside, planted in the real thing, and what each run of them measured.

A test is a drill by its mark, `@pytest.mark.drill(fault, planted=..., seen=...)`, wherever it is; the fixture `figure` takes
what it measured. Here are those that take minutes.
"""
