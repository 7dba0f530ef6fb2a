"""`labctl smoke`: is this labctl, on this machine, all that it promises? For CI and for a first day.

    smoke.py     which lab, which checks, in which order; what is kept of a failure
    checks.py    the checks: the scenario that labctl is made for, a fault, healing
    scene.py     what every check looks at and types
    report.py    the outcome as JUnit XML and as JSON

It works from outside, as a person does: the real kubectl, ssh, and the lab's own verbs.
"""
