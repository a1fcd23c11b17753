"""Every image through a frozen vision tower once: what it computed is kept by the content of its
inputs.
"""
