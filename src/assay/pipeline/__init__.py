"""The whole job: options, run, its folder and results, model card, audit, value of labels, demo."""
