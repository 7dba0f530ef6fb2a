"""`labctl smoke`: it checks that labctl does on this machine what it promises. It is for CI and for a first try.

    smoke.py     which lab, which checks, in which order; what is saved after a failure
    checks.py    the checks: the scenario that labctl is made for, a fault, healing
    scene.py     the lab that every check reads, and the commands it runs
    report.py    the outcome as JUnit XML and as JSON

It uses what a person uses: the real kubectl, ssh, and the lab's own commands.
"""
