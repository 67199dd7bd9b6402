"""The link emulator: a TCP relay whose rate, delay and outages follow a trace."""
