"""What both ends of a call have to agree on before anything else; it imports nothing."""

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
"""What can be asked for beside commands: the parts of `copy`, `tunnel` and of sending a file that belong there; what
programs need in one call: all that a command in a guest says, and every instance with its spec; what a shell offers."""
