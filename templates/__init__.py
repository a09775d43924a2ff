"""The template language, and the templates that come with Interlock: nothing about images, drivers or guests.

Reading a template yields a validated model; creation/ turns it into a machine on this host.
"""
