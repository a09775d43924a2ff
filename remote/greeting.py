"""The constants that both ends of a call must agree on; it imports nothing."""

CALL = "remote-call"
"""The first word of a command line from another machine's Interlock, followed by a JSON object and the words."""

GREETING = b"interlock-remote-call "
"""The beginning of the line on stderr with which an Interlock answers a call; a JSON object follows."""

REFUSED = 6
"""The exit code of an answer that does nothing because the versions are incompatible; the caller words the error."""

WAY, SFTP, TUNNEL = ":way", ":sftp", ":tunnel"
KEEP = ":keep"
RUN, INSTANCES = ":run", ":instances"
COMPLETE = ":complete"
"""Requests besides commands: the remote parts of `copy`, of `tunnel` and of sending a file; calls for programs, which
return all output of a command in a guest, or every instance with its spec; the completions for a shell."""
