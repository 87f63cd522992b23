"""One thin script a DVC stage: parse, call the library, write where dvc.yaml says."""
