"""One file a schema revision; a revision that was released is never edited."""
