"""The live page: a lab's machines, pods, Services, Events and faults in a browser, as they are now. docs/dash.md says how it is used and guarded."""
