"""The model card: a page that is made of figures on disk and of nothing else."""
