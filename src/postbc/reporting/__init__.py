"""What a finished run left on disk, and the page that tells it. Reads files only."""
