"""What a live mesh asks of its workers, kept in a file to be asked again."""
