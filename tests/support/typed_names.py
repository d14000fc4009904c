"""What type checkers know of the public names: mypy reads this, nothing runs it.

A wrong keyword is an error for it: were it none, mypy would name the comment that allows it as unused.
"""

import assay

result = assay.run("images", "out", trusted="trusted.csv", seed=1)
rate: float = result.noise.rate.estimate
names: tuple[str, ...] = assay.load_model("out").predict("new").names
assay.run("images", "out", trusted="trusted.csv", sed=1)  # type: ignore[call-arg]  # no such keyword
