"""What a guest needs from us, and what we ask of it: its seed, its keys, whether it answers over ssh, and what failed.

Knows no driver, no image and no template; imports nothing of Interlock but fsm/, host/ and the errors.
"""
