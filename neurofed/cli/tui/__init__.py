"""The full-screen monitor, `neurofed monitor` on a terminal. It needs the extra `tui`; nothing else imports it."""
