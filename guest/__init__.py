"""What a guest needs from us, and what we ask of it: its first-boot seed, its keys, and whether it answers over ssh.

Knows no driver, no image and no template; imports nothing of Interlock but fsm/.
"""
