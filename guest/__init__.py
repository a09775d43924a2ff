"""What a guest gets from us and what we ask of it: its seed, its keys, whether it answers over ssh, and what failed.

Knows no driver, no image and no template; of Interlock it imports only fsm/, host/ and errors.
"""
