"""The only code that reads templates, and the templates that come with Interlock.

A template is gone once `create` has ended: nothing here is imported by fsm/, drivers/ or guest/, and nothing here
runs after creation.
"""
