"""CEL, the Common Expression Language: rules that people write into definitions of kinds, admission policies and webhooks' conditions.

Who calls it: resources/custom/rules.py (a schema's `x-kubernetes-validations`) and the room `admission`. The language itself is Google's own
implementation (the package `cel-expr-python`); what Kubernetes adds to it stands here. Nothing here is imported before somebody has an expression.
"""
