"""The template language, and the templates that come with Interlock: nothing about images, drivers or guests.

Reading a template yields a validated model; what becomes of it on this host is for creation/ to say.
"""
