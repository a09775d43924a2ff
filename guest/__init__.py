"""What Interlock gives a guest and asks of it: seed, keys, whether it answers over ssh, and what failed.

Knows no driver, no image and no template; of Interlock it imports only fsm/, host/ and errors.
"""
