"""One module for each stage of dvc.yaml, and the plumbing the stages share."""
