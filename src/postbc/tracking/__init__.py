"""MLflow: which models there are, which is the champion, and what each was made from."""
