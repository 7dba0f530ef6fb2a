"""Role-based access control: who holds which rules, and what a rule allows. The api and the admission step RoleEscalation ask it."""
