"""What each operation does across both tiers: the only modules that know both.

Plans do no I/O and read no clock; they yield the steps of `steps.py`.
"""
