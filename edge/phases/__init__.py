"""What we decide about a request, one module a phase. Pure; phases never import each other."""
