"""What both ends of a call have to agree on before anything else; it costs no import."""

CALL = "remote-call"
"""The first word of a command line that another machine's Interlock asks for; then come a JSON object and the words."""

GREETING = b"interlock-remote-call "
"""How the line of stderr begins with which an Interlock answers a call; a JSON object follows."""

REFUSED = 6
"""The exit code of an answer that does nothing because the versions do not fit; the caller has the words for it."""

WAY, SFTP, TUNNEL = ":way", ":sftp", ":tunnel"
KEEP = ":keep"
RUN, INSTANCES = ":run", ":instances"
COMPLETE = ":complete"
"""What can be asked for beside commands: the parts of `copy`, `tunnel` and of sending a file that belong there; what
programs need in one call: all that a command in a guest says, and every instance with its spec; what a shell offers."""
